//! Randomness as an argument.

/// A source of randomness that nobody else can predict: it fills what it is given.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// A number below `end`, each with the same chance; zero when `end` is.
pub(crate) fn below(random: Random<'_>, end: u64) -> u64 {
    if end == 0 {
        return 0;
    }
    // What is left over at the top would make low numbers likelier.
    let usable = u64::MAX - u64::MAX % end;
    let mut number = 0;
    // A source that is out of use must not hold us up; one in use passes the first round.
    for _ in 0..ROUNDS_MAX {
        let mut bytes = [0; 8];
        random(&mut bytes);
        number = u64::from_be_bytes(bytes);
        if number < usable {
            break;
        }
    }
    number % end
}

const ROUNDS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_the_top_are_drawn_again() {
        let mut draws = [u64::MAX, u64::MAX - 5, u64::MAX - 6, 7].into_iter();
        let mut random = |bytes: &mut [u8]| {
            bytes.copy_from_slice(&draws.next().expect("four draws").to_be_bytes());
        };
        assert_eq!(below(&mut random, 10), 9, "2^64 - 7 is below the last multiple of ten");
        assert_eq!(below(&mut random, 10), 7);
        assert_eq!(below(&mut |bytes| bytes.fill(0xff), 10), 5, "a broken source ends too");
        assert_eq!(below(&mut |bytes| bytes.fill(0xff), 0), 0);
    }
}
