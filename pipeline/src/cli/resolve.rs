//! Layering the configuration: defaults, a preset, a TOML file, `--set`; unknown keys are refused by name.

use crate::{PipelineError, Result};
use lapidary_schemas::config::ViewSpec;
use lapidary_schemas::{AUGMENT_RECIPES, Config, PRESETS, augment_recipe, preset};
use serde::Deserialize;
use std::path::Path;
use toml::{Table, Value};

/// Resolves a configuration; afterwards `plan.view` holds the recipe's views where none were given.
///
/// # Errors
/// [`PipelineError::Usage`] naming the preset, file or key that cannot be, with the nearest known one.
pub fn resolve(preset_name: Option<&str>, file: Option<&Path>, set: &[String]) -> Result<Config> {
    let known = known_keys();
    let mut merged = Table::new();
    if let Some(name) = preset_name.filter(|name| !name.is_empty()) {
        let text = preset(name)
            .ok_or_else(|| unknown("preset", name, PRESETS.iter().map(|(known, _)| (*known).to_owned())))?;
        lay_over(&mut merged, parse(text, &format!("preset {name}"))?);
    }
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|e| PipelineError::Usage(format!("read `{}`: {e}", path.display())))?;
        let layer = parse(&text, &path.display().to_string())?;
        refuse_unknown(&layer, &known, "", &path.display().to_string())?;
        lay_over(&mut merged, layer);
    }
    for assignment in set {
        let layer = parse_assignment(assignment)?;
        refuse_unknown(&layer, &known, "", "--set")?;
        lay_over(&mut merged, layer);
    }
    let mut config = Config::deserialize(Value::Table(merged))
        .map_err(|e| PipelineError::Usage(format!("configuration: {}", e.message())))?;
    if config.plan.views.is_empty() {
        config.plan.views = recipe_views(&config.plan.recipe)?;
    }
    Ok(config)
}

/// A configuration as TOML, every key written out.
pub fn to_toml(config: &Config) -> String {
    toml::to_string_pretty(config).expect("a configuration is plain tables, numbers and strings")
}

fn recipe_views(name: &str) -> Result<Vec<ViewSpec>> {
    #[derive(Deserialize)]
    struct Recipe {
        view: Vec<ViewSpec>,
    }
    let text = augment_recipe(name)
        .ok_or_else(|| unknown("plan.recipe", name, AUGMENT_RECIPES.iter().map(|(known, _)| (*known).to_owned())))?;
    let recipe: Recipe =
        toml::from_str(text).map_err(|e| PipelineError::Internal(format!("recipe {name}: {}", e.message())))?;
    Ok(recipe.view)
}

fn parse(text: &str, name: &str) -> Result<Table> {
    text.parse::<Table>().map_err(|e| PipelineError::Usage(format!("{name}: {e}")))
}

/// `a.b=3` as a table; a value that is no TOML is taken as a string.
fn parse_assignment(assignment: &str) -> Result<Table> {
    let (key, value) = assignment.split_once('=').ok_or_else(|| {
        PipelineError::Usage(format!("--set `{assignment}` has no `=`\nhint: write --set pretrain.batch=32"))
    })?;
    let value = format!("v = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut table = Table::from_iter([(last.to_owned(), value)]);
    for part in parts.into_iter().rev() {
        table = Table::from_iter([(part.to_owned(), Value::Table(table))]);
    }
    Ok(table)
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// The defaults written out, which name every key; `plan.view` holds one view for its keys.
fn known_keys() -> Table {
    let mut config = Config::default();
    config.plan.views.push(ViewSpec::default());
    Table::try_from(&config).expect("the default configuration is plain tables, numbers and strings")
}

fn refuse_unknown(layer: &Table, known: &Table, prefix: &str, origin: &str) -> Result<()> {
    for (key, value) in layer {
        let name = format!("{prefix}{key}");
        let Some(expected) = known.get(key) else {
            let error = unknown("key", &name, known.keys().map(|k| format!("{prefix}{k}")));
            return Err(PipelineError::Usage(format!("{origin}: {error}")));
        };
        match (value, expected) {
            (Value::Table(inner), Value::Table(expected)) => {
                refuse_unknown(inner, expected, &format!("{name}."), origin)?;
            }
            (Value::Array(items), Value::Array(expected)) => {
                for item in items.iter().filter_map(Value::as_table) {
                    if let Some(expected) = expected.first().and_then(Value::as_table) {
                        refuse_unknown(item, expected, &format!("{name}."), origin)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn unknown(what: &str, name: &str, known: impl Iterator<Item = String>) -> PipelineError {
    let mut known: Vec<String> = known.collect();
    known.sort_by_key(|candidate| strsim::damerau_levenshtein(candidate, name));
    let nearest = known.first().map(|n| format!("\nhint: did you mean `{n}`?")).unwrap_or_default();
    PipelineError::Usage(format!("unknown {what} `{name}`{nearest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(assignments: &[&str]) -> Result<Config> {
        resolve(None, None, &assignments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn presets_and_recipes_resolve() {
        for (name, _) in PRESETS {
            let config = resolve(Some(name), None, &[]).expect(name);
            assert!(!config.plan.views.is_empty(), "{name}");
            let table = parse(preset(name).expect("known"), name).expect("TOML");
            refuse_unknown(&table, &known_keys(), "", name).expect(name);
            let read: Config = toml::from_str(&to_toml(&config)).expect("reads back");
            assert_eq!(read, config);
        }
        for (name, _) in AUGMENT_RECIPES {
            assert!(!recipe_views(name).expect(name).is_empty());
        }
    }

    #[test]
    fn set_lays_over_and_reads_bare_words_as_strings() {
        let config = set(&["pretrain.batch=32", "objective.kind=dino", "embed.encoder=my-run"]).expect("resolves");
        assert_eq!(config.pretrain.batch, 32);
        assert_eq!(config.embed.encoder, "my-run");
    }

    #[test]
    fn a_typo_names_the_nearest_key() {
        let error = set(&["pretrain.bacth=32"]).expect_err("a typo");
        assert!(error.to_string().contains("did you mean `pretrain.batch`?"), "{error}");
        assert_eq!(error.exit_code(), 2);
        let error = resolve(Some("dmeo"), None, &[]).expect_err("a typo");
        assert!(error.to_string().contains("`demo`"), "{error}");
    }
}
