//! The one piece of arithmetic that OpenSSH's RSA files leave to their reader.

/// `number` modulo `modulus`, both big-endian; the modulus is not zero. Bit by
/// bit, which for the two numbers of one key is fast enough.
pub(super) fn remainder(number: &[u8], modulus: &[u8]) -> Vec<u8> {
    // One byte more than the modulus: doubling may carry into it.
    let mut rest = vec![0; modulus.len() + 1];
    let modulus = [&[0], modulus].concat();
    for byte in number {
        for bit in (0..8).rev() {
            double(&mut rest, byte >> bit & 1);
            if rest >= modulus {
                subtract(&mut rest, &modulus);
            }
        }
    }
    rest
}

/// `number` less one; it is odd.
pub(super) fn less_one(number: &[u8]) -> Vec<u8> {
    let mut number = number.to_vec();
    if let Some(last) = number.last_mut() {
        *last &= 0xfe;
    }
    number
}

fn double(number: &mut [u8], mut carry: u8) {
    for byte in number.iter_mut().rev() {
        let next = *byte >> 7;
        *byte = *byte << 1 | carry;
        carry = next;
    }
}

fn subtract(number: &mut [u8], other: &[u8]) {
    let mut borrowed = false;
    for (byte, other) in number.iter_mut().zip(other).rev() {
        let (first, one) = byte.overflowing_sub(*other);
        let (second, two) = first.overflowing_sub(u8::from(borrowed));
        *byte = second;
        borrowed = one || two;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_processor() {
        let numbers = [0_u64, 1, 2, 255, 256, 65_537, 0xdead_beef, 0xffff_ffff_ffff_ffff];
        for number in numbers {
            for modulus in numbers.into_iter().filter(|modulus| *modulus > 0) {
                let found = remainder(&number.to_be_bytes(), &modulus.to_be_bytes());
                assert_eq!(found[1..], (number % modulus).to_be_bytes(), "{number} % {modulus}");
            }
        }
        assert_eq!(less_one(&[1, 1]), [1, 0]);
    }
}
