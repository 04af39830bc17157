//! The values that have a canonical form, and serde's way into them.
//!
//! Not `serde_json::Value`: that one turns a NaN into `null`, keeps floats, and sorts keys by UTF-8.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::ser::{self, Serialize};

use super::{CanonicalJsonError as Error, MAX_INTEGER};

/// A value with a canonical form.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    String(String),
    Array(Vec<Value>),
    Object(BTreeMap<Key, Value>),
}

/// An object key, ordered by its UTF-16 code units (RFC 8785, section 3.2.3). That differs from the order of UTF-8
/// only beyond the basic plane.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.encode_utf16().cmp(other.0.encode_utf16())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

/// Turns anything that serde can serialise into a [`Value`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Serializer;

fn integer(number: i128) -> Result<Value, Error> {
    if (-MAX_INTEGER..=MAX_INTEGER).contains(&number) {
        Ok(Value::Integer(number))
    } else {
        Err(Error::Integer(number))
    }
}

fn tagged(variant: &str, value: Value) -> Value {
    Value::Object(BTreeMap::from([(Key(variant.to_owned()), value)]))
}

macro_rules! integers {
    ($($method:ident $type:ty)*) => {$(
        fn $method(self, number: $type) -> Result<Value, Error> {
            integer(i128::from(number))
        }
    )*};
}

impl ser::Serializer for Serializer {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    integers! {
        serialize_i8 i8
        serialize_i16 i16
        serialize_i32 i32
        serialize_i64 i64
        serialize_i128 i128
        serialize_u8 u8
        serialize_u16 u16
        serialize_u32 u32
        serialize_u64 u64
    }

    fn serialize_u128(self, number: u128) -> Result<Value, Error> {
        integer(i128::try_from(number).unwrap_or(i128::MAX))
    }

    fn serialize_bool(self, value: bool) -> Result<Value, Error> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, number: f32) -> Result<Value, Error> {
        Err(Error::Float(number.into()))
    }

    fn serialize_f64(self, number: f64) -> Result<Value, Error> {
        Err(Error::Float(number))
    }

    fn serialize_char(self, c: char) -> Result<Value, Error> {
        Ok(Value::String(c.to_string()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, Error> {
        Ok(Value::String(text.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Error> {
        Err(Error::Bytes)
    }

    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Error> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Ok(tagged(variant, value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Error> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Error> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Error> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items, Error> {
        Ok(Items { variant: Some(variant), ..Items::default() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members, Error> {
        Ok(Members::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members, Error> {
        Ok(Members::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members, Error> {
        Ok(Members { variant: Some(variant), ..Members::default() })
    }
}

/// An array under way.
#[derive(Debug, Default)]
pub(super) struct Items {
    variant: Option<&'static str>,
    items: Vec<Value>,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.items.push(value.serialize(Serializer)?);
        Ok(())
    }

    fn finish(self) -> Value {
        let array = Value::Array(self.items);
        match self.variant {
            Some(variant) => tagged(variant, array),
            None => array,
        }
    }
}

macro_rules! arrays {
    ($($trait:ident $method:ident)*) => {$(
        impl ser::$trait for Items {
            type Ok = Value;
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.push(value)
            }

            fn end(self) -> Result<Value, Error> {
                Ok(self.finish())
            }
        }
    )*};
}

arrays! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

/// An object under way.
#[derive(Debug, Default)]
pub(super) struct Members {
    variant: Option<&'static str>,
    key: Option<String>,
    object: BTreeMap<Key, Value>,
}

impl Members {
    fn put<T: Serialize + ?Sized>(&mut self, key: String, value: &T) -> Result<(), Error> {
        match self.object.insert(Key(key.clone()), value.serialize(Serializer)?) {
            None => Ok(()),
            Some(_) => Err(Error::DuplicateKey(key)),
        }
    }

    fn finish(self) -> Value {
        let object = Value::Object(self.object);
        match self.variant {
            Some(variant) => tagged(variant, object),
            None => object,
        }
    }
}

impl ser::SerializeMap for Members {
    type Ok = Value;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let Value::String(key) = key.serialize(Serializer)? else { return Err(Error::Key) };
        self.key = Some(key);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or(Error::Key)?;
        self.put(key, value)
    }

    fn end(self) -> Result<Value, Error> {
        Ok(self.finish())
    }
}

macro_rules! objects {
    ($($trait:ident)*) => {$(
        impl ser::$trait for Members {
            type Ok = Value;
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
                self.put(key.to_owned(), value)
            }

            fn end(self) -> Result<Value, Error> {
                Ok(self.finish())
            }
        }
    )*};
}

objects! { SerializeStruct SerializeStructVariant }
