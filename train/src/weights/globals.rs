//! The closed list of names that a checkpoint's pickle may mention, and what each is taken for. None of them is ever run.

/// What a name is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Global {
    /// `torch._utils._rebuild_tensor_v2`: a tensor on a storage.
    Tensor,
    /// `torch._utils._rebuild_parameter`: the tensor that is its first argument.
    Parameter,
    /// A storage's type, by the name of its numbers.
    Storage(&'static str),
    /// `collections.OrderedDict`: a dictionary.
    Dictionary,
    /// `argparse.Namespace`: an object whose attributes are a dictionary.
    Namespace,
    /// Something that says nothing of weights, and is passed over.
    Passed,
}

/// What a name is taken for, if it is on the list.
pub(super) fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Global::Tensor,
        ("torch._utils", "_rebuild_parameter") => Global::Parameter,
        ("torch", storage) if storage.ends_with("Storage") => Global::Storage(number(storage)?),
        ("collections", "OrderedDict") => Global::Dictionary,
        ("argparse", "Namespace") => Global::Namespace,
        ("torch", "Size" | "device") => Global::Passed,
        ("torch", "float32" | "float64" | "float16" | "bfloat16" | "int64" | "int32" | "uint8" | "bool") => {
            Global::Passed
        }
        // Python 2's and 3's names of the same module; numpy 2 has an underscore.
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Passed,
        ("numpy", "dtype") | ("_codecs", "encode") => Global::Passed,
        ("pathlib" | "pathlib._local", "PosixPath" | "PurePosixPath") => Global::Passed,
        ("collections", "defaultdict" | "Counter") => Global::Passed,
        ("builtins" | "__builtin__", "dict" | "int" | "float" | "list" | "set" | "bool" | "str") => Global::Passed,
        _ => return None,
    })
}

/// The kind of number of a storage's type.
fn number(storage: &str) -> Option<&'static str> {
    Some(match storage {
        "HalfStorage" => "f16",
        "BFloat16Storage" => "bf16",
        "FloatStorage" => "f32",
        "DoubleStorage" => "f64",
        "LongStorage" => "int64",
        "IntStorage" => "int32",
        "ShortStorage" => "int16",
        "CharStorage" => "int8",
        "ByteStorage" => "uint8",
        "BoolStorage" => "bool",
        _ => return None,
    })
}
