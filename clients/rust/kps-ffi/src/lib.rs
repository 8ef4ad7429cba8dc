//! The C interface: see `include/kps.h`, which is made from this crate.
//!
//! No panic leaves it, every pointer is checked for NULL, and what is freed is said in `kps.h`.

#![allow(non_camel_case_types)]

mod ack;
mod client;
mod message;
mod options;
mod pending;
mod presence;
mod status;
mod subscription;
mod texts;
