//! Bytes that nobody can predict.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes a source of such bytes. The hashes of the standard library are keyed with random numbers of
/// the system; so those of a counter cannot be told from random ones.
pub(crate) fn entropy() -> impl FnMut(&mut [u8]) + Send + 'static {
    let keys = RandomState::new();
    let mut count = 0u64;
    move |bytes| {
        for eight in bytes.chunks_mut(8) {
            count += 1;
            let mut hasher = keys.build_hasher();
            hasher.write_u64(count);
            eight.copy_from_slice(&hasher.finish().to_ne_bytes()[..eight.len()]);
        }
    }
}

/// An id that nobody else has.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; 8];
    entropy()(&mut bytes);
    format!("client_{:016x}", u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        assert_ne!(random_id(), random_id());
        assert_eq!(random_id().len(), "client_".len() + 16);
    }
}
