//! Protocol Buffers, as much as ONNX needs: numbers, texts and messages in messages (protobuf.dev, encoding).

/// A message that is being written.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// An integer field.
    pub(super) fn int(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    /// A field of 4 bytes.
    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.varint(u64::from(field) << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// The beginning of a field of `len` bytes, which the caller writes.
    pub(super) fn open(mut self, field: u32, len: u64) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(len);
        self
    }

    /// A text.
    pub(super) fn text(self, field: u32, text: &str) -> Self {
        let mut message = self.open(field, text.len() as u64);
        message.0.extend(text.as_bytes());
        message
    }

    /// A message.
    pub(super) fn message(self, field: u32, inner: &Self) -> Self {
        let mut message = self.open(field, inner.0.len() as u64);
        message.0.extend(&inner.0);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_manual() {
        // protobuf.dev/programming-guides/encoding: field 1 of 150, field 2 "testing", and the first in field 3.
        assert_eq!(Message::default().int(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().text(2, "testing").0, [0x12, 7, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        let inner = Message::default().int(1, 150);
        assert_eq!(Message::default().message(3, &inner).0, [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().int(1, -1).0.len(), 11, "negative numbers take ten bytes");
    }
}
