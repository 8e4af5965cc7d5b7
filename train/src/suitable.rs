//! Whether devices can train a configuration, asked before anything is read: its precision, and how many of them share a batch.

use crate::Result;
use crate::backend::{CPU, DeviceChoice, computes_in, device_name};
use crate::model::stored_as;
use lapidary_pipeline::PipelineError;
use lapidary_schemas::Config;
use lapidary_schemas::config::Precision;

/// Refuses a precision that a device does not have.
pub(crate) fn refuse_precision(devices: &[DeviceChoice], named: &str, precision: Precision) -> Result<()> {
    if precision == Precision::F32 {
        return Ok(());
    }
    let asked = if precision == Precision::Bf16 { "bf16" } else { "f16" };
    let refused = if devices.iter().any(|choice| device_name(*choice).is_ok_and(|name| name == CPU)) {
        format!("pretrain.precision = {asked} needs a GPU; on a CPU it is f32\nhint: --device cuda, or leave that key")
    } else if !devices.iter().all(|choice| computes_in(*choice, stored_as(precision)).unwrap_or(false)) {
        let hint =
            if precision == Precision::Bf16 { "pretrain.precision=f16, or leave that key" } else { "leave that key" };
        format!("pretrain.precision = {asked} needs a GPU that has it, and `{named}` has not\nhint: {hint}")
    } else {
        return Ok(());
    };
    Err(PipelineError::Usage(refused).into())
}

/// Refuses more devices than can share a batch, and what several of them cannot compute.
///
/// # Errors
/// A usage error that names the key.
pub fn refuse_devices(devices: usize, config: &Config) -> Result<()> {
    let (batch, objective) = (config.pretrain.batch, &config.objective);
    let refused = if devices > batch {
        format!(
            "{devices} devices have no images each of pretrain.batch = {batch}\nhint: name fewer, or raise that key"
        )
    } else if devices > 1 && objective.ibot_weight > 0.0 && objective.head_batch_norm {
        "objective.head_batch_norm with objective.ibot_weight needs one device: a share of the batch may have no masked \
         patches, of which there is no mean\nhint: name one, or set objective.head_batch_norm=false"
            .to_owned()
    } else {
        return Ok(());
    };
    Err(PipelineError::Usage(refused).into())
}
