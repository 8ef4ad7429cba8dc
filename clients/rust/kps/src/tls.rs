//! TLS without I/O: bytes of the network go in and come out, as those of the program do.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Whom to trust.
#[derive(Clone, Default)]
pub(crate) enum Trust {
    /// Whom the system trusts.
    #[default]
    System,
    /// The authorities whose certificates are in a text (PEM).
    Authorities(Vec<u8>),
    /// What the program has configured, in full.
    Configured(Arc<ClientConfig>),
}

/// One connection with TLS.
pub(crate) struct Tls(ClientConnection);

impl Tls {
    pub fn new(trust: &Trust, host: &str) -> Result<Tls, String> {
        let config = match trust {
            Trust::Configured(config) => config.clone(),
            Trust::System => Arc::new(trusting(rustls_native_certs::load_native_certs().certs)?),
            Trust::Authorities(text) => Arc::new(trusting(read(text)?)?),
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let mut connection =
            ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        connection.set_buffer_limit(None); // what waits is bounded elsewhere
        Ok(Tls(connection))
    }

    /// Takes bytes of the network, and returns those for the program.
    pub fn incoming(&mut self, mut data: &[u8]) -> Result<Vec<u8>, String> {
        let mut plain = Vec::new();
        while !data.is_empty() {
            self.0.read_tls(&mut data).map_err(|error| error.to_string())?;
            self.0.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
            match self.0.reader().read_to_end(&mut plain) {
                Ok(_) => return Ok(plain), // the server has said that it sends nothing more
                Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(plain)
    }

    /// Takes bytes of the program, and returns those for the network.
    pub fn outgoing(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        // Neither fails: both write to memory.
        let _ = self.0.writer().write_all(plain);
        while self.0.wants_write() && self.0.write_tls(&mut out).is_ok() {}
        out
    }

    /// Whether there is something for the network, whatever the program writes.
    pub fn wants_write(&self) -> bool {
        self.0.wants_write()
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) -> Vec<u8> {
        self.0.send_close_notify();
        self.outgoing(&[])
    }
}

fn read(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<_, _> = CertificateDer::pem_slice_iter(text).collect();
    read.map_err(|error| format!("the certificates of the authorities: {error}"))
}

fn trusting(certificates: Vec<CertificateDer<'static>>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err("there is no authority whose certificates are trusted".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
