//! TLS 1.3 between two nodes: one key exchange, one signature algorithm, raw public keys on both
//! sides.
//!
//! # Requirements
//! Both sides hold an ML-DSA-65 identity key (FIPS 204). The dialling side knows the peer id that
//! must answer.
//!
//! # Provided
//! - Key exchange by X25519MLKEM768 alone and signatures by ML-DSA-65 alone: the lists have one
//!   entry, so a classical peer finds nothing in common and a downgrade has nowhere to go.
//! - Both sides prove their keys, carried as raw public keys (RFC 7250). The dialling side refuses
//!   any other key than the expected one before it sends its own.
//! - The accepting side has one face for every refused key: malformed, not proven, not admitted. Who
//!   is admitted is asked only after a key is proven, so that a stranger cannot probe for members.
//! - No tickets, no resumption, no early data, no server name: every connection is a whole handshake
//!   with fresh keys, so a revocation bites at the next one.
//!
//! # Not provided
//! - The accepting side's key is visible to whoever dials it.
//! - The dialling side's `connect` may return before the accepting side has admitted it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use exo_crypto::{IdentityKey, PostQuantumKeypair};
use exo_types::PeerId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as provider,
    verify_tls13_signature_with_raw_key,
};
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

use super::{Purpose, metric};

/// Decides whether a proven key may connect at all. It is asked inside the handshake, so it must not
/// block; the caller checks again by [`Purpose`] after it accepts.
pub type Admit = Arc<dyn Fn(&IdentityKey) -> bool + Send + Sync>;

/// The key and the algorithms a node's connections share. Its `Debug` shows the public half alone.
#[derive(Clone, Debug)]
pub(super) struct TlsIdentity {
    provider: Arc<CryptoProvider>,
    certified: Arc<CertifiedKey>,
}

impl TlsIdentity {
    pub(super) fn new(identity: &PostQuantumKeypair) -> Result<Self, Error> {
        let pkcs8 = identity.to_pkcs8();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let signer = provider::sign::any_supported_type(&key)?;
        let spki = CertificateDer::from(identity.public().spki_der());
        Ok(Self {
            provider: Arc::new(crypto_provider()),
            certified: Arc::new(CertifiedKey::new(vec![spki], signer)),
        })
    }

    /// What this node offers to whoever dials it.
    pub(super) fn server_config(&self, admit: Admit) -> Result<rustls::ServerConfig, Error> {
        let verifier = RawKeyVerifier::new(Rule::Admitted(admit));
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.alpn_protocols = Purpose::ALL.map(|purpose| purpose.alpn().to_vec()).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// What this node demands of the one peer it dials; `found` receives the key that answered when
    /// it is another's.
    pub(super) fn client_config(
        &self,
        expect: PeerId,
        purpose: Purpose,
        found: Arc<OnceLock<PeerId>>,
    ) -> Result<rustls::ClientConfig, Error> {
        let verifier = RawKeyVerifier::new(Rule::Exactly { expect, found });
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous() // the verifier below replaces certificate authorities by one pinned key
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.alpn_protocols = vec![purpose.alpn().to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok(config)
    }
}

/// One key exchange group and one signature algorithm. AES-128-GCM stays among the suites because
/// QUIC protects its Initial packets with it (RFC 9001 section 5.2).
fn crypto_provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_256_GCM_SHA384,
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![provider::kx_group::X25519MLKEM768],
        signature_verification_algorithms: SIGNATURES,
        ..provider::default_provider()
    }
}

/// Whose key is acceptable.
enum Rule {
    /// Dialling: the one peer that must answer.
    Exactly { expect: PeerId, found: Arc<OnceLock<PeerId>> },
    /// Accepting: any proven key that the node admits.
    Admitted(Admit),
}

/// Checks the other side's raw public key and its proof, for both sides.
struct RawKeyVerifier {
    rule: Rule,
}

impl RawKeyVerifier {
    fn new(rule: Rule) -> Self {
        Self { rule }
    }

    /// Reads the key; the dialling side compares it with the expected one here, before it sends
    /// anything about itself.
    fn check_key(
        &self,
        key: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        // RFC 7250 section 3: a raw public key comes alone.
        let key = match IdentityKey::from_spki_der(key) {
            Ok(key) if more.is_empty() => key,
            _ => return Err(refused("malformed_key")),
        };
        if let Rule::Exactly { expect, found } = &self.rule {
            let peer = key.peer_id();
            if peer != *expect {
                // A second key on one connection cannot come; the first found is the one named.
                let _ = found.set(peer);
                return Err(refused("wrong_peer"));
            }
        }
        Ok(())
    }

    /// Checks the proof, and only then asks whether the key is admitted.
    fn check_proof(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        proof: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
        let valid = verify_tls13_signature_with_raw_key(message, &spki, proof, &SIGNATURES)
            .map_err(|_| refused("bad_proof"))?;
        if let Rule::Admitted(admit) = &self.rule {
            let key = IdentityKey::from_spki_der(key).map_err(|_| refused("malformed_key"))?;
            if !admit(&key) {
                return Err(refused("not_admitted"));
            }
        }
        Ok(valid)
    }
}

/// The one face of every refusal of a key; the cause goes to the operator alone.
fn refused(cause: &'static str) -> Error {
    metric::refused(cause);
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

impl fmt::Debug for RawKeyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Exactly { expect, .. } => write!(f, "RawKeyVerifier(exactly {expect:?})"),
            Rule::Admitted(_) => f.write_str("RawKeyVerifier(admitted)"),
        }
    }
}

impl ServerCertVerifier for RawKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused("old_version"))
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
        SIGNATURES.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for RawKeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused("old_version"))
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
        SIGNATURES.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// ML-DSA-65 alone (draft-ietf-tls-mldsa).
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::aws_lc_rs::ML_DSA_65],
    mapping: &[(SignatureScheme::ML_DSA_65, &[webpki::aws_lc_rs::ML_DSA_65])],
};
