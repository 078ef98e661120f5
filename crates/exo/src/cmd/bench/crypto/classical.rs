//! The configuration the node's is compared with: the same TLS 1.3 with X25519 and raw Ed25519 keys.
//!
//! It lives here and nowhere else. A node's endpoint takes an identity and bounds, never a TLS
//! configuration, and an identity is an ML-DSA-65 key: no setting, file or peer can make a node
//! offer or accept what is built here.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use exo_federation::driver::net::Purpose;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme, version,
};

use super::super::broken;
use super::{CLASSICAL, Pair};
use crate::exit::Failure;

/// Both ends, each with the other's key pinned, as the node pins its peers'.
pub(super) fn pair() -> Result<Pair, Failure> {
    let failed = |error: Error| broken("the classical TLS configuration", error);
    let provider = Arc::new(crypto_provider());
    let (listener, dialler) = (certified()?, certified()?);
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(failed)?
        .with_client_cert_verifier(pinned(&dialler, &provider)?)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(listener.clone())));
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(failed)?
        .dangerous() // one pinned key, as in the node's own configuration
        .with_custom_certificate_verifier(pinned(&listener, &provider)?)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(dialler)));
    // All the rest as the node sets it, so that the keys are the only difference.
    server.alpn_protocols = Purpose::ALL.map(|purpose| purpose.alpn().to_vec()).to_vec();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.max_early_data_size = 0;
    client.alpn_protocols = vec![Purpose::Member.alpn().to_vec()];
    client.resumption = Resumption::disabled();
    client.enable_early_data = false;
    client.enable_sni = false;
    Ok(Pair { name: CLASSICAL, server, client })
}

fn crypto_provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    }
}

fn certified() -> Result<Arc<CertifiedKey>, Failure> {
    let what = "an Ed25519 key";
    let pair = Ed25519KeyPair::generate().map_err(|error| broken(what, error))?;
    let pkcs8 = pair.to_pkcs8().map_err(|error| broken(what, error))?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_ref()));
    let signer = provider::sign::any_supported_type(&key).map_err(|error| broken(what, error))?;
    let public = signer.public_key().ok_or_else(|| broken(what, "it has no public half"))?;
    let spki = CertificateDer::from(public.as_ref().to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![spki], signer)))
}

fn pinned(peer: &CertifiedKey, provider: &Arc<CryptoProvider>) -> Result<Arc<PinnedKey>, Failure> {
    let key = peer.cert.first().ok_or_else(|| broken("an Ed25519 key", "it is missing"))?;
    Ok(Arc::new(PinnedKey { key: key.clone(), provider: provider.clone() }))
}

/// Accepts one raw public key and its proof.
struct PinnedKey {
    key: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl PinnedKey {
    fn check_key(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if more.is_empty() && *key == self.key { Ok(()) } else { Err(refused()) }
    }

    fn check_proof(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, proof, algorithms)
    }
}

fn refused() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

impl fmt::Debug for PinnedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinnedKey")
    }
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_proof(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PinnedKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_proof(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
