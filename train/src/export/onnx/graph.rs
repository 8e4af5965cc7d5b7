//! An ONNX graph that is being built: nodes, constants, and the names between them (onnx.proto3 of onnx 1.17).

use super::proto::Message;
use std::borrow::Cow;

/// ONNX's numbers of types.
const FLOAT: i64 = 1;
const INT64: i64 = 7;

/// A constant's numbers.
#[derive(Debug)]
enum Numbers<'a> {
    Floats(Cow<'a, [f32]>),
    /// `[outputs, inputs]`, to be written `[inputs, outputs]`.
    Transposed {
        values: &'a [f32],
        outputs: usize,
        inputs: usize,
    },
    Ints(Vec<i64>),
}

/// A constant of the graph.
#[derive(Debug)]
pub(super) struct Constant<'a> {
    /// All of its message but the numbers, which are its last field.
    pub(super) head: Message,
    numbers: Numbers<'a>,
    pub(super) bytes: u64,
}

impl Constant<'_> {
    /// Its numbers' bytes, little-endian; of a transposed matrix a copy is in memory meanwhile.
    pub(super) fn write(&self, file: &mut impl std::io::Write) -> std::io::Result<()> {
        match &self.numbers {
            Numbers::Floats(values) => super::super::safetensors::write_values(file, values),
            Numbers::Transposed { values, outputs, inputs } => {
                let column = |input: usize| (0..*outputs).map(move |output| values[output * inputs + input]);
                let turned: Vec<f32> = (0..*inputs).flat_map(column).collect();
                super::super::safetensors::write_values(file, &turned)
            }
            Numbers::Ints(values) => values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes())),
        }
    }
}

/// A value of the graph, by name.
pub(super) type Name = String;

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
}

/// A graph that is being built.
#[derive(Debug, Default)]
pub(super) struct Graph<'a> {
    pub(super) nodes: Message,
    pub(super) constants: Vec<Constant<'a>>,
    made: usize,
}

impl<'a> Graph<'a> {
    /// Adds a node with one output, whose name it returns.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&Name], attributes: &[(&str, Attribute<'_>)]) -> Name {
        self.made += 1;
        let output = format!("{}_{}", operator.to_lowercase(), self.made);
        self.node_to(operator, inputs, attributes, &output);
        output
    }

    /// Adds a node with an output of a given name.
    pub(super) fn node_to(
        &mut self,
        operator: &str,
        inputs: &[&Name],
        attributes: &[(&str, Attribute<'_>)],
        output: &str,
    ) {
        let mut node = Message::default();
        for input in inputs {
            node = node.text(1, input);
        }
        node = node.text(2, output).text(3, output).text(4, operator);
        for (name, value) in attributes {
            let attribute = Message::default().text(1, name);
            let attribute = match value {
                Attribute::Int(value) => attribute.int(3, *value).int(20, 2),
                Attribute::Float(value) => attribute.float(2, *value).int(20, 1),
                Attribute::Ints(values) => {
                    values.iter().fold(attribute, |attribute, value| attribute.int(8, *value)).int(20, 7)
                }
            };
            node = node.message(5, &attribute);
        }
        self.nodes = std::mem::take(&mut self.nodes).message(1, &node);
    }

    /// Adds a constant of floating-point numbers.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: impl Into<Cow<'a, [f32]>>) -> Name {
        let values = values.into();
        let bytes = 4 * values.len() as u64;
        self.constant(name, FLOAT, shape, Numbers::Floats(values), bytes)
    }

    /// Adds a Linear's weight `[outputs, inputs]` as the matrix `[inputs, outputs]` that MatMul takes.
    pub(super) fn transposed(&mut self, name: &str, [outputs, inputs]: [usize; 2], values: &'a [f32]) -> Name {
        let numbers = Numbers::Transposed { values, outputs, inputs };
        self.constant(name, FLOAT, &[inputs, outputs], numbers, 4 * values.len() as u64)
    }

    /// Adds a constant list of integers.
    pub(super) fn ints(&mut self, values: &[i64]) -> Name {
        self.ints_of(&[values.len()], values.to_vec())
    }

    /// Adds a constant integer.
    pub(super) fn int(&mut self, value: i64) -> Name {
        self.ints_of(&[], vec![value])
    }

    fn ints_of(&mut self, shape: &[usize], values: Vec<i64>) -> Name {
        self.made += 1;
        let bytes = 8 * values.len() as u64;
        self.constant(&format!("ints_{}", self.made), INT64, shape, Numbers::Ints(values), bytes)
    }

    fn constant(&mut self, name: &str, kind: i64, shape: &[usize], numbers: Numbers<'a>, bytes: u64) -> Name {
        let head = shape.iter().fold(Message::default(), |head, side| head.int(1, *side as i64));
        let head = head.int(2, kind).text(8, name).open(9, bytes);
        self.constants.push(Constant { head, numbers, bytes });
        name.to_owned()
    }
}

/// An input or output of a graph: floating-point numbers, the first dimension free.
pub(super) fn value(name: &str, sides: &[usize]) -> Message {
    let free = Message::default().text(2, "batch");
    let shape = sides.iter().fold(Message::default().message(1, &free), |shape, side| {
        shape.message(1, &Message::default().int(1, *side as i64))
    });
    let tensor = Message::default().int(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
