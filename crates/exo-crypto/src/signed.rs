//! Signed statements: [`Signed`] is what arrives, [`Verified`] is what a core accepts.
//!
//! The signature is over the bytes as they arrived, never over a new encoding of what they decode to.
//! There is no way from one to the other but [`Signed::verify`].

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use exo_types::PeerId;
use exo_types::codec::{CodecError, Wire, bound};
use serde::{Deserialize, Serialize};

use crate::body;
use crate::identity::{
    BadSignature, IdentityKey, PostQuantumKeypair, SIGNATURE_BYTES, SignError, Signature,
};
use crate::label::Label;

/// A statement that members sign.
pub trait SignedBody: Wire {
    /// What the signature is for. One label belongs to one type.
    const LABEL: Label;

    /// The member that the statement says signs it: verification fails under any other key. `None`
    /// when the statement does not name its signer and the caller alone knows whose key to use.
    fn signer(&self) -> Option<PeerId>;
}

/// A statement and a signature that nobody has checked.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    #[serde(with = "body")]
    body: Vec<u8>,
    signature: Signature,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

/// Why a statement was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignBodyError {
    /// The statement breaks a rule of its type, which its receivers would refuse.
    #[error("the statement was not signed: {0}")]
    Body(CodecError),
    /// The statement names another signer.
    #[error("the statement was not signed: it is for {named:?} to sign, not for {signer:?}")]
    OtherSigner {
        /// Who the statement says signs it.
        named: PeerId,
        /// Whose key was given.
        signer: PeerId,
    },
    /// The library did not sign.
    #[error(transparent)]
    Sign(SignError),
}

/// Why a statement was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The signature is not that key's under this type's label on these bytes.
    #[error("the signature of {0:?} does not hold")]
    Signature(PeerId),
    /// The signature holds, but the bytes are no statement of this type.
    #[error("what {signer:?} signed is not valid: {error}")]
    Body {
        /// Whose signature it is.
        signer: PeerId,
        /// What is wrong with the bytes.
        error: CodecError,
    },
    /// The signature holds, but the statement names another signer.
    #[error("{signer:?} signed what is for {named:?} to sign")]
    OtherSigner {
        /// Who the statement says signs it.
        named: PeerId,
        /// Whose signature it is.
        signer: PeerId,
    },
}

impl<T: SignedBody> Signed<T> {
    /// Signs a statement.
    ///
    /// # Errors
    /// [`SignBodyError`].
    pub fn sign(value: T, keypair: &PostQuantumKeypair) -> Result<Verified<T>, SignBodyError> {
        let signer = keypair.peer_id();
        if let Some(named) = value.signer().filter(|named| *named != signer) {
            return Err(SignBodyError::OtherSigner { named, signer });
        }
        let body = value.to_wire().map_err(SignBodyError::Body)?;
        let signature = keypair.sign(T::LABEL, &body).map_err(SignBodyError::Sign)?;
        Ok(Verified { value, signer, signed: Self { body, signature, of: PhantomData } })
    }

    /// Checks the signature, decodes the statement and checks that it names this signer or none.
    ///
    /// # Errors
    /// [`VerifyError`]; the signature is checked first.
    pub fn verify(&self, key: &IdentityKey) -> Result<Verified<T>, VerifyError> {
        let signer = key.peer_id();
        key.verify(T::LABEL, &self.body, &self.signature)
            .map_err(|BadSignature| VerifyError::Signature(signer))?;
        let value =
            T::from_wire(&self.body).map_err(|error| VerifyError::Body { signer, error })?;
        if let Some(named) = value.signer().filter(|named| *named != signer) {
            return Err(VerifyError::OtherSigner { named, signer });
        }
        Ok(Verified { value, signer, signed: self.clone() })
    }

    /// What the statement claims, with nothing checked but its form: good for one thing, to find the
    /// key to [`verify`](Self::verify) with.
    ///
    /// # Errors
    /// [`CodecError`].
    pub fn claimed(&self) -> Result<T, CodecError> {
        T::from_wire(&self.body)
    }
}

impl<T> Signed<T> {
    /// The signed bytes, to hash or compare; they prove nothing.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The unchecked signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

impl<T: SignedBody> Wire for Signed<T> {
    // A length of at most five bytes stands before the body.
    const BYTES_MAX: usize = 5 + T::BYTES_MAX + SIGNATURE_BYTES;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.body.len(), T::BYTES_MAX)
    }
}

// By hand: a derive would ask the same of `T`, which is not held.
impl<T> Clone for Signed<T> {
    fn clone(&self) -> Self {
        Self { body: self.body.clone(), signature: self.signature.clone(), of: PhantomData }
    }
}

impl<T> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.body == other.body && self.signature == other.signature
    }
}

impl<T> Eq for Signed<T> {}

impl<T> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signed({} bytes, {:?})", self.body.len(), self.signature)
    }
}

/// A statement whose signature held. It derefs to the statement and cannot be changed.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signer: PeerId,
    signed: Signed<T>,
}

impl<T> Verified<T> {
    /// Whose signature held.
    pub fn signer(&self) -> PeerId {
        self.signer
    }

    /// The statement with its signature, to pass on or keep.
    pub fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// Gives up the decoded statement for the one with its signature.
    pub fn into_signed(self) -> Signed<T> {
        self.signed
    }

    /// Gives up the signature for the statement.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Verified<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("value", &self.value)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use exo_types::codec::invalid;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Note {
        author: Option<PeerId>,
        text: String,
    }

    impl Wire for Note {
        const BYTES_MAX: usize = 128;

        fn check(&self) -> Result<(), CodecError> {
            if self.text.contains('!') { Err(invalid("no shouting")) } else { Ok(()) }
        }
    }

    impl SignedBody for Note {
        const LABEL: Label = Label::ANSWER;

        fn signer(&self) -> Option<PeerId> {
            self.author
        }
    }

    /// The same shape for another purpose.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Other(Note);

    impl Wire for Other {
        const BYTES_MAX: usize = 128;

        fn check(&self) -> Result<(), CodecError> {
            self.0.check()
        }
    }

    impl SignedBody for Other {
        const LABEL: Label = Label::TOKEN;

        fn signer(&self) -> Option<PeerId> {
            None
        }
    }

    fn keypair(seed: u8) -> PostQuantumKeypair {
        PostQuantumKeypair::from_seed(&[seed; 32]).expect("a seed expands")
    }

    fn note(author: Option<PeerId>, text: &str) -> Note {
        Note { author, text: text.to_owned() }
    }

    #[test]
    fn a_statement_verifies_after_the_wire_under_its_signers_key_alone() {
        let (ours, other) = (keypair(1), keypair(2));
        let made = Signed::sign(note(Some(ours.peer_id()), "hello"), &ours).expect("signs");
        let wire = made.signed().to_wire().expect("encodes");
        let arrived = Signed::<Note>::from_wire(&wire).expect("decodes");
        let verified = arrived.verify(ours.public()).expect("verifies");
        assert_eq!(verified, made);
        assert_eq!((verified.text.as_str(), verified.signer()), ("hello", ours.peer_id()));
        assert_eq!(arrived.verify(other.public()), Err(VerifyError::Signature(other.peer_id())));
    }

    #[test]
    fn a_signature_for_one_type_does_not_pass_for_another() {
        let keypair = keypair(1);
        let made = Signed::sign(note(None, "hello"), &keypair).expect("signs");
        let wire = made.signed().to_wire().expect("encodes");
        let other = Signed::<Other>::from_wire(&wire).expect("the shapes are the same");
        assert_eq!(
            other.verify(keypair.public()).err(),
            Some(VerifyError::Signature(keypair.peer_id()))
        );
    }

    #[test]
    fn a_statement_in_anothers_name_is_neither_signed_nor_accepted() {
        let (ours, other) = (keypair(1), keypair(2));
        let foreign = note(Some(other.peer_id()), "hello");
        let named = other.peer_id();
        let signer = ours.peer_id();
        assert_eq!(
            Signed::sign(foreign.clone(), &ours).err(),
            Some(SignBodyError::OtherSigner { named, signer })
        );
        let body = foreign.to_wire().expect("encodes");
        let signature = ours.sign(Note::LABEL, &body).expect("signs");
        let forged = Signed::<Note> { body, signature, of: PhantomData };
        assert_eq!(
            forged.verify(ours.public()).err(),
            Some(VerifyError::OtherSigner { named, signer })
        );
    }

    #[test]
    fn signed_statements_are_equal_when_body_and_signature_are() {
        let keypair = keypair(1);
        let [one, again, other] =
            ["a", "a", "b"].map(|text| Signed::sign(note(None, text), &keypair).expect("signs"));
        assert_eq!(one.signed(), &one.clone().into_signed());
        assert_ne!(one.signed(), again.signed(), "signing is hedged");
        let swapped = Signed { body: other.signed.body, ..one.signed.clone() };
        assert_ne!(*one.signed(), swapped);
    }

    #[test]
    fn rules_bind_the_signer_and_the_verifier() {
        let keypair = keypair(1);
        let bad = note(None, "hello!");
        assert!(matches!(Signed::sign(bad.clone(), &keypair), Err(SignBodyError::Body(_))));
        let body = postcard_of(&bad);
        let signature = keypair.sign(Note::LABEL, &body).expect("signs");
        let signed = Signed::<Note> { body, signature, of: PhantomData };
        assert!(matches!(signed.verify(keypair.public()), Err(VerifyError::Body { .. })));
        assert!(signed.claimed().is_err());
    }

    #[test]
    fn a_body_over_its_bound_does_not_decode() {
        let keypair = keypair(1);
        let body = vec![0; Note::BYTES_MAX + 1];
        let signature = keypair.sign(Note::LABEL, &body).expect("signs");
        let long = Signed::<Note> { body, signature, of: PhantomData };
        assert!(matches!(long.to_wire(), Err(CodecError::TooLong { .. })));
    }

    /// The encoding without the checks: one `None`, then a text behind its length.
    fn postcard_of(note: &Note) -> Vec<u8> {
        [&[0, note.text.len() as u8], note.text.as_bytes()].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_on_the_wire_is_refused(text in "[a-z ]{0,40}", position in any::<prop::sample::Index>()) {
            let keypair = keypair(1);
            let made = Signed::sign(note(None, &text), &keypair).expect("signs");
            let mut wire = made.signed().to_wire().expect("encodes");
            let bit = position.index(wire.len() * 8);
            wire[bit / 8] ^= 1 << (bit % 8);
            let result = Signed::<Note>::from_wire(&wire).map(|s| s.verify(keypair.public()));
            prop_assert!(!matches!(result, Ok(Ok(_))));
        }
    }
}
