//! The federation token: what a holder shows a member with every request.
//!
//! A token is issued by the member that will honour it, after key exchange, mutual authentication
//! and negotiation, and is signed so that it stays checkable after a restart and by an auditor.
//! It is presented once a session and named by its id in every request; every request checks every
//! rule again.

use std::collections::BTreeSet;

use exo_crypto::{Label, SignedBody};
use exo_types::limits::{CAPABILITIES_MAX, CLOCK_SKEW_MILLIS_MAX, TOKEN_LIFE_MILLIS};
use exo_types::{
    CodecError, Epoch, FederationId, PeerId, Timestamp, TokenId, Wire, bounded,
    codec::{bound, invalid},
};
use serde::{Deserialize, Serialize};

use crate::capability::WORD_BYTES_MAX;
use crate::refusal::Refusal;

/// A grant of capabilities at one member to another, for one federation, epoch and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FederationToken {
    /// Its id, random.
    pub id: TokenId,
    /// The federation it counts in.
    pub federation: FederationId,
    /// Who issued and signed it.
    pub issuer: PeerId,
    /// Who may use it.
    pub holder: PeerId,
    /// Where it may be used.
    pub audience: PeerId,
    /// Names of the capabilities it grants.
    #[serde(deserialize_with = "bounded::set::<_, _, CAPABILITIES_MAX>")]
    pub capabilities: BTreeSet<String>,
    /// The membership epoch it was issued in; it dies with it.
    pub epoch: Epoch,
    /// When it was issued.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a token must agree with at the member it is shown to.
#[derive(Clone, Copy, Debug)]
pub struct Expectation {
    /// The federation here.
    pub federation: FederationId,
    /// The member it is shown to.
    pub audience: PeerId,
    /// The authenticated peer that shows it.
    pub holder: PeerId,
    /// The membership epoch here.
    pub epoch: Epoch,
    /// The time here.
    pub now: Timestamp,
    /// Tokens of this holder issued before this moment were revoked.
    pub not_before: Option<Timestamp>,
}

impl FederationToken {
    /// Checks every rule but the signature and the capability asked for.
    pub fn check_against(&self, expected: &Expectation) -> Result<(), Refusal> {
        if self.federation != expected.federation {
            return Err(Refusal::TokenForeign);
        }
        if self.audience != expected.audience || self.issuer != expected.audience {
            return Err(Refusal::TokenAudience);
        }
        if self.holder != expected.holder {
            return Err(Refusal::TokenHolder);
        }
        if expected.not_before.is_some_and(|moment| self.issued < moment) {
            return Err(Refusal::TokenRevoked);
        }
        // A clock that was set back after a revocation must not lock the holder out: its new tokens
        // are dated at the moment of the revocation.
        let latest = expected.now.plus_millis(CLOCK_SKEW_MILLIS_MAX);
        let early = self.issued > latest.max(expected.not_before.unwrap_or_default());
        if early || self.expires <= expected.now {
            return Err(Refusal::TokenExpired);
        }
        if self.epoch != expected.epoch {
            return Err(Refusal::TokenEpoch);
        }
        Ok(())
    }

    /// Whether it grants a capability.
    pub fn grants(&self, capability: &str) -> Result<(), Refusal> {
        if self.capabilities.contains(capability) { Ok(()) } else { Err(Refusal::TokenOverreach) }
    }
}

impl Wire for FederationToken {
    const BYTES_MAX: usize = 4096;

    fn check(&self) -> Result<(), CodecError> {
        bound(self.capabilities.len(), CAPABILITIES_MAX)?;
        self.capabilities.iter().try_for_each(|name| bound(name.len(), WORD_BYTES_MAX))?;
        if self.expires <= self.issued || self.expires.millis_since(self.issued) > TOKEN_LIFE_MILLIS
        {
            return Err(invalid("a token's life is out of bounds"));
        }
        Ok(())
    }
}

impl SignedBody for FederationToken {
    const LABEL: Label = Label::TOKEN;

    fn signer(&self) -> Option<PeerId> {
        Some(self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> FederationToken {
        FederationToken {
            id: TokenId::new([1; 16]),
            federation: FederationId::new([2; 32]),
            issuer: PeerId::new([3; 32]),
            holder: PeerId::new([4; 32]),
            audience: PeerId::new([3; 32]),
            capabilities: BTreeSet::from(["search".to_owned()]),
            epoch: Epoch(5),
            issued: Timestamp(1_000_000),
            expires: Timestamp(2_000_000),
        }
    }

    fn expectation() -> Expectation {
        Expectation {
            federation: FederationId::new([2; 32]),
            audience: PeerId::new([3; 32]),
            holder: PeerId::new([4; 32]),
            epoch: Epoch(5),
            now: Timestamp(1_500_000),
            not_before: None,
        }
    }

    #[test]
    fn a_good_token_is_good_until_the_moment_it_expires() {
        let at = |now| token().check_against(&Expectation { now: Timestamp(now), ..expectation() });
        assert_eq!(at(1_500_000), Ok(()));
        assert_eq!(at(1_999_999), Ok(()));
        assert_eq!(at(2_000_000), Err(Refusal::TokenExpired));
        assert_eq!(at(1_000_000 - CLOCK_SKEW_MILLIS_MAX), Ok(()));
        assert_eq!(at(1_000_000 - CLOCK_SKEW_MILLIS_MAX - 1), Err(Refusal::TokenExpired));
    }

    #[test]
    fn a_token_dated_at_the_revocation_is_good_though_the_clock_was_set_back() {
        let revoked = Timestamp(1_000_000);
        let back =
            Expectation { now: Timestamp(1_000), not_before: Some(revoked), ..expectation() };
        assert_eq!(token().check_against(&back), Ok(()));
        let later = FederationToken { issued: Timestamp(1_000_001), ..token() };
        assert_eq!(later.check_against(&back), Err(Refusal::TokenExpired));
    }

    #[test]
    fn every_field_is_bound() {
        let other = PeerId::new([9; 32]);
        let refused = |change: &dyn Fn(&mut FederationToken)| {
            let mut token = token();
            change(&mut token);
            token.check_against(&expectation()).expect_err("changed")
        };
        let foreign = FederationId::new([9; 32]);
        assert_eq!(refused(&|t| t.federation = foreign), Refusal::TokenForeign);
        assert_eq!(refused(&|t| t.issuer = other), Refusal::TokenAudience);
        assert_eq!(refused(&|t| t.audience = other), Refusal::TokenAudience);
        assert_eq!(refused(&|t| t.holder = other), Refusal::TokenHolder);
        assert_eq!(refused(&|t| t.epoch = Epoch(4)), Refusal::TokenEpoch);
        assert_eq!(refused(&|t| t.epoch = Epoch(6)), Refusal::TokenEpoch);
        let revoked = Expectation { not_before: Some(Timestamp(1_000_001)), ..expectation() };
        assert_eq!(token().check_against(&revoked), Err(Refusal::TokenRevoked));
        assert_eq!(token().grants("search"), Ok(()));
        assert_eq!(token().grants("terms"), Err(Refusal::TokenOverreach));
    }

    #[test]
    fn a_life_out_of_bounds_does_not_decode() {
        let mut endless = token();
        endless.expires = Timestamp(u64::MAX);
        assert!(endless.to_wire().is_err());
    }
}
