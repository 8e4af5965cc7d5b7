//! A pickle read without being run: a stack machine that makes a tree of values and knows a closed list of names.
//!
//! Python's unpickler calls what a file names; this one has nothing to call. A name that is not in [`super::globals`] ends
//! the reading and is said. Each byte of the pickle makes at most one value, so memory is bounded by the file's length.

use super::globals::{Global, known};
use std::collections::HashMap;

/// A pickle of more bytes than this is none of weights: a large training checkpoint's has some 2 MiB.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// Storages are named by small numbers.
const KEY_MAX_BYTES: usize = 32;

/// A value, by its place in [`Pickle::values`].
pub(super) type Id = u32;

/// A value. Values refer to each other by place, as pickles do, which may be in circles.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// None, a float, bytes, or what is passed over.
    Other,
    Bool(bool),
    Int(i64),
    Text(String),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    Global(Global),
    /// Numbers in an entry of the archive.
    Storage {
        number: &'static str,
        key: String,
        count: u64,
    },
    Tensor {
        storage: Id,
        offset: u64,
        shape: Vec<usize>,
        strides: Vec<usize>,
    },
}

/// A pickle's values.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads a pickle of protocol 2 to 4.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine =
            Machine { bytes, at: 0, values: Vec::new(), stack: Vec::new(), memo: HashMap::new(), copied: 0 };
        loop {
            let begun = machine.at;
            let step = machine.step();
            match step.map_err(|fault| format!("its pickle {fault} (byte {begun})"))? {
                Some(root) => return Ok(Self { values: machine.values, root }),
                None => continue,
            }
        }
    }

    /// The value that the pickle is of.
    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn get(&self, id: Id) -> &Value {
        // Every place that a value holds was made by the machine before.
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }
}

/// What lies on the stack: a value or the mark that `MARK` leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Slot {
    Value(Id),
    Mark,
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Slot>,
    memo: HashMap<u32, Id>,
    /// Attributes copied so far, which a pickle could make many of with few bytes.
    copied: usize,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// Does one operation; the root at the end.
    fn step(&mut self) -> Step<Option<Id>> {
        match self.byte()? {
            0x80 => match self.byte()? {
                2..=4 => {}
                version => return Err(format!("is of protocol {version}, not of 2 to 4")),
            },
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.stack.push(Slot::Mark),
            b'0' => drop(self.stack.pop()),
            b'N' => self.push(Value::Other),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let value = self.u32()? as i32;
                self.push(Value::Int(value.into()));
            }
            b'K' => {
                let value = self.byte()?;
                self.push(Value::Int(value.into()));
            }
            b'M' => {
                let two = self.take(2)?;
                self.push(Value::Int(u16::from_le_bytes([two[0], two[1]]).into()));
            }
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            0x8d => self.text(8)?,
            b'U' => self.text(1)?,
            b'T' => self.text(4)?,
            b'C' => self.skipped(1)?,
            b'B' => self.skipped(4)?,
            b'}' => self.push(Value::Dictionary(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            0x8f => self.push(Value::List(Vec::new())),
            b')' => self.push(Value::Tuple(Vec::new())),
            b't' => {
                let items = self.since_mark()?;
                self.push(Value::Tuple(items));
            }
            count @ 0x85..=0x87 => {
                let mut items = (0..count - 0x84).map(|_| self.pop()).collect::<Step<Vec<Id>>>()?;
                items.reverse();
                self.push(Value::Tuple(items));
            }
            b'q' => {
                let key = self.byte()?;
                self.remember(key.into())?;
            }
            b'r' => {
                let key = self.u32()?;
                self.remember(key)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let key = self.byte()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = self.u32()?;
                self.recall(key)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                if items.len() % 2 == 1 {
                    return Err("sets a key without a value".to_owned());
                }
                self.set(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.name(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (self.get(module).clone(), self.get(name).clone())
                else {
                    return Err("names something by what is no text".to_owned());
                };
                self.name(&module, &name)?;
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            b'b' => self.build()?,
            b'Q' => self.storage()?,
            other => return Err(format!("has the operation 0x{other:02x}, which `torch.save` never writes")),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or("was cut short")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Step<u32> {
        let four = self.take(4)?;
        Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
    }

    /// A length of 1, 4 or 8 bytes and as many bytes as it says.
    fn counted(&mut self, width: usize) -> Step<&'a [u8]> {
        let len = self.take(width)?.iter().rev().fold(0u64, |len, byte| len << 8 | u64::from(*byte));
        self.take(usize::try_from(len).map_err(|_| "was cut short")?)
    }

    fn text(&mut self, width: usize) -> Step<()> {
        let text = String::from_utf8_lossy(self.counted(width)?).into_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn skipped(&mut self, width: usize) -> Step<()> {
        self.counted(width)?;
        self.push(Value::Other);
        Ok(())
    }

    /// An integer of up to 8 bytes; longer ones say nothing of weights.
    fn long(&mut self) -> Step<()> {
        let bytes = self.counted(1)?;
        let mut eight = [if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 }; 8];
        let value = if bytes.len() <= 8 {
            eight[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(eight))
        } else {
            Value::Other
        };
        self.push(value);
        Ok(())
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take(256).position(|byte| *byte == b'\n').ok_or("names something without an end")?;
        self.at += len + 1;
        Ok(String::from_utf8_lossy(&rest[..len]).into_owned())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Slot::Value(self.values.len() as Id));
        self.values.push(value);
    }

    fn pop(&mut self) -> Step<Id> {
        match self.stack.pop() {
            Some(Slot::Value(id)) => Ok(id),
            _ => Err("takes from an empty stack".to_owned()),
        }
    }

    fn get(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::Other)
    }

    fn since_mark(&mut self) -> Step<Vec<Id>> {
        let mark =
            self.stack.iter().rposition(|slot| *slot == Slot::Mark).ok_or("goes back to a mark that is missing")?;
        let items = self.stack.drain(mark..).skip(1);
        Ok(items.filter_map(|slot| if let Slot::Value(id) = slot { Some(id) } else { None }).collect())
    }

    /// The value on top of the stack, which stays there.
    fn top(&mut self) -> Step<&mut Value> {
        let top = match self.stack.last() {
            Some(Slot::Value(id)) => self.values.get_mut(*id as usize),
            _ => None,
        };
        top.ok_or_else(|| "changes an empty stack".to_owned())
    }

    fn remember(&mut self, key: u32) -> Step<()> {
        match self.stack.last() {
            Some(Slot::Value(id)) => drop(self.memo.insert(key, *id)),
            _ => return Err("remembers an empty stack".to_owned()),
        }
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        let id = *self.memo.get(&key).ok_or("recalls what it never remembered")?;
        self.stack.push(Slot::Value(id));
        Ok(())
    }

    fn append(&mut self, mut items: Vec<Id>) -> Step<()> {
        match self.top()? {
            Value::List(list) => list.append(&mut items),
            Value::Other => {}
            _ => return Err("appends to what is no list".to_owned()),
        }
        Ok(())
    }

    fn set(&mut self, mut pairs: Vec<(Id, Id)>) -> Step<()> {
        match self.top()? {
            Value::Dictionary(all) => all.append(&mut pairs),
            Value::Other => {}
            _ => return Err("sets a key of what is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn name(&mut self, module: &str, name: &str) -> Step<()> {
        let global = known(module, name)
            .ok_or_else(|| format!("tries to run `{module}.{name}`, which no weights need; nothing was run"))?;
        self.push(Value::Global(global));
        Ok(())
    }

    /// What a call on the list comes to.
    fn call(&mut self, callee: Id, arguments: Id) -> Step<()> {
        let (Value::Global(global), Value::Tuple(arguments)) = (self.get(callee), self.get(arguments)) else {
            return Err("calls what is no name".to_owned());
        };
        let value = match global {
            Global::Tensor => self.tensor(arguments)?,
            Global::Parameter => {
                let tensor = *arguments.first().ok_or("makes a parameter of nothing")?;
                self.stack.push(Slot::Value(tensor));
                return Ok(());
            }
            Global::Dictionary | Global::Namespace => Value::Dictionary(Vec::new()),
            Global::Storage(_) | Global::Passed => Value::Other,
        };
        self.push(value);
        Ok(())
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, ...)`.
    fn tensor(&self, arguments: &[Id]) -> Step<Value> {
        let fault = || "makes a tensor of what is none".to_owned();
        let [storage, offset, shape, strides, ..] = arguments else { return Err(fault()) };
        let (Value::Storage { .. }, Value::Int(offset)) = (self.get(*storage), self.get(*offset)) else {
            return Err(fault());
        };
        let sizes = |id: &Id| -> Option<Vec<usize>> {
            match self.get(*id) {
                Value::Tuple(items) if items.len() <= 8 => items.iter().map(|item| self.size(*item)).collect(),
                _ => None,
            }
        };
        let (shape, strides) = sizes(shape).zip(sizes(strides)).ok_or_else(fault)?;
        if shape.len() != strides.len() {
            return Err(fault());
        }
        let offset = u64::try_from(*offset).map_err(|_| fault())?;
        Ok(Value::Tensor { storage: *storage, offset, shape, strides })
    }

    fn size(&self, id: Id) -> Option<usize> {
        if let Value::Int(value) = self.get(id) { usize::try_from(*value).ok() } else { None }
    }

    /// `BUILD`: the attributes of a namespace; those of anything else say nothing of weights.
    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let pairs = if let Value::Dictionary(pairs) = self.get(state) { pairs.clone() } else { Vec::new() };
        self.copied += pairs.len();
        if self.copied > self.bytes.len() {
            return Err("copies itself over and over".to_owned());
        }
        // An ordered dictionary's own attribute, by which modules keep versions.
        let is_metadata = pairs.iter().any(|(key, _)| matches!(self.get(*key), Value::Text(key) if key == "_metadata"));
        if let Value::Dictionary(all) = self.top()?
            && !is_metadata
        {
            all.extend(pairs);
        }
        Ok(())
    }

    /// `BINPERSID`: `('storage', type, key, location, count)`.
    fn storage(&mut self) -> Step<()> {
        let id = self.pop()?;
        let items = if let Value::Tuple(items) = self.get(id) { items.as_slice() } else { &[] };
        let values: Vec<&Value> = items.iter().map(|item| self.get(*item)).collect();
        let [Value::Text(_), Value::Global(Global::Storage(number)), Value::Text(key), _, Value::Int(count)] =
            values[..]
        else {
            return Err("refers to something that is no storage".to_owned());
        };
        if key.len() > KEY_MAX_BYTES {
            return Err("refers to a storage by a name that is none".to_owned());
        }
        let count = u64::try_from(*count).map_err(|_| "refers to a storage of negative length")?;
        let value = Value::Storage { number, key: key.clone(), count };
        self.push(value);
        Ok(())
    }
}
