//! Peers that do not keep the rules: plain quinn and rustls, set up as the test needs.

use std::net::SocketAddr;
use std::sync::Arc;

use exo_crypto::PostQuantumKeypair;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group, sign::any_supported_type};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureAlgorithm, SignatureScheme, version,
};

use super::{localhost, within};

pub(super) const HYBRID: &[&dyn SupportedKxGroup] = &[kx_group::X25519MLKEM768];
pub(super) const CLASSICAL: &[&dyn SupportedKxGroup] =
    &[kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

/// What a rogue presents and offers.
pub(crate) struct Rogue {
    pub(super) groups: &'static [&'static dyn SupportedKxGroup],
    pub(super) key: Option<CertifiedKey>,
    pub(super) alpn: &'static [u8],
}

impl Rogue {
    /// As good as a real peer, but for what the test changes.
    pub(crate) fn like(identity: &PostQuantumKeypair) -> Self {
        Self { groups: HYBRID, key: Some(own_key(identity)), alpn: b"exo/1" }
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider { kx_groups: self.groups.to_vec(), ..default_provider() })
    }

    fn client_config(self) -> quinn::ClientConfig {
        let builder = rustls::ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&version::TLS13])
            .expect("TLS 1.3 is there")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAnyone));
        let mut config = match self.key {
            None => builder.with_client_cert_resolver(Arc::new(NoKey)),
            Some(key) => builder.with_client_cert_resolver(Arc::new(
                AlwaysResolvesClientRawPublicKeys::new(Arc::new(key)),
            )),
        };
        config.alpn_protocols = vec![self.alpn.to_vec()];
        let config = QuicClientConfig::try_from(config).expect("has the initial suite");
        quinn::ClientConfig::new(Arc::new(config))
    }

    /// Dials `to` and returns what came of the handshake on this side.
    pub(crate) async fn dial(
        self,
        to: SocketAddr,
    ) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
        let endpoint = quinn::Endpoint::client(localhost()).expect("binds");
        let config = self.client_config();
        let connecting = endpoint.connect_with(config, to, "rogue").expect("begins");
        let connection = within(connecting).await?;
        Ok((endpoint, connection))
    }

    /// Dials `to`, which must refuse: the close code and reason that this side is told.
    pub(super) async fn dial_in_vain(self, to: SocketAddr) -> (u64, String) {
        let error = match self.dial(to).await {
            Err(error) => error,
            Ok((_endpoint, connection)) => within(connection.closed()).await,
        };
        match error {
            quinn::ConnectionError::ConnectionClosed(close) => {
                let reason = String::from_utf8_lossy(&close.reason).into_owned();
                (u64::from(close.error_code), reason)
            }
            other => panic!("not refused by the handshake: {other:?}"),
        }
    }

    /// A server that takes any key for good.
    pub(super) fn serve(self) -> quinn::Endpoint {
        let alpn = self.alpn.to_vec();
        let provider = self.provider();
        let key = self.key.expect("a server has a key");
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .expect("TLS 1.3 is there")
            .with_client_cert_verifier(Arc::new(TrustsAnyone))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::new(key))));
        config.alpn_protocols = vec![alpn];
        let config = QuicServerConfig::try_from(config).expect("has the initial suite");
        let config = quinn::ServerConfig::with_crypto(Arc::new(config));
        let endpoint = quinn::Endpoint::server(config, localhost()).expect("binds");
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connection.closed().await;
                    }
                });
            }
        });
        endpoint
    }
}

pub(super) fn own_key(identity: &PostQuantumKeypair) -> CertifiedKey {
    stolen_key(identity, identity)
}

/// One's public key before another's private one.
pub(super) fn stolen_key(of: &PostQuantumKeypair, by: &PostQuantumKeypair) -> CertifiedKey {
    let pkcs8 = by.to_pkcs8();
    let signer = any_supported_type(&PrivateKeyDer::Pkcs8(pkcs8.as_slice().into()));
    CertifiedKey::new(vec![of.public().spki_der().into()], signer.expect("is supported"))
}

/// A raw public key of another algorithm, which signs whatever the other side asks for.
pub(super) fn foreign_key(pkcs8: &[u8], scheme: SignatureScheme) -> CertifiedKey {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
    let inner = any_supported_type(&key).expect("is supported");
    let spki = inner.public_key().expect("has a public half").to_vec();
    CertifiedKey::new(vec![spki.into()], Arc::new(Stubborn { inner, scheme }))
}

/// Signs with its own scheme although the other side did not offer it.
#[derive(Debug)]
struct Stubborn {
    inner: Arc<dyn SigningKey>,
    scheme: SignatureScheme,
}

impl SigningKey for Stubborn {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.inner.choose_scheme(&[self.scheme])
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }
}

/// Offers raw public keys and then presents none.
#[derive(Debug)]
struct NoKey;

impl ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct TrustsAnyone;

impl ServerCertVerifier for TrustsAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for TrustsAnyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
