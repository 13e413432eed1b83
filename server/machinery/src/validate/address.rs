//! Internet addresses and ranges of them, as far as rules look at them.

use std::net::IpAddr;

use super::place::Place;
use super::report::Report;

/// What upstream says of text that is no address.
const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// What upstream says of text that is no range.
const NO_RANGE: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address that is given must be one.
pub(super) fn check(place: &Place<'_>, report: &mut Report) {
    if place.text().parse::<IpAddr>().is_err() {
        report.invalid_text(place, NO_ADDRESS);
    }
}

/// Whether text is an address.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// An address must be one that others can reach.
pub(super) fn check_reachable(place: &Place<'_>, report: &mut Report) {
    let Ok(address) = place.text().parse::<IpAddr>() else {
        return report.invalid_text(place, NO_ADDRESS);
    };
    if address.is_unspecified() {
        report.invalid_text(place, format!("may not be unspecified ({address})"));
    }
    if address.is_loopback() {
        report.invalid_text(
            place,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    let (is_link_local, is_link_local_multicast) = match address {
        IpAddr::V4(address) => (
            address.is_link_local(),
            address.octets().starts_with(&[224, 0, 0]),
        ),
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            (first & 0xffc0 == 0xfe80, first & 0xff0f == 0xff02)
        }
    };
    if is_link_local {
        report.invalid_text(
            place,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    if is_link_local_multicast {
        report.invalid_text(
            place,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

/// A range of addresses: those that begin with some bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    address: IpAddr,
    bits: u8,
}

impl Range {
    fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let is_number = bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u8 = bits.parse().ok().filter(|_| is_number)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether another is a part of it, and not the whole.
    pub(super) fn has_within(self, other: Self) -> bool {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let is_same_start = match self.bits {
            0 => true,
            bits => (wide(self.address) ^ wide(other.address)) >> (128 - u32::from(bits)) == 0,
        };
        self.address.is_ipv4() == other.address.is_ipv4() && is_same_start && self.bits < other.bits
    }
}

/// A range must be one.
pub(super) fn check_range(place: &Place<'_>, report: &mut Report) -> Option<Range> {
    let range = Range::read(place.text().trim());
    if range.is_none() {
        report.invalid_text(place, NO_RANGE);
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_know_their_parts() {
        let range = |text| Range::read(text).unwrap();
        assert!(range("10.0.0.0/8").has_within(range("10.1.0.0/16")));
        assert!(!range("10.0.0.0/8").has_within(range("10.0.0.0/8")));
        assert!(!range("10.0.0.0/8").has_within(range("11.0.0.0/16")));
        assert!(range("::/0").has_within(range("2001:db8::/32")));
        assert!(!range("0.0.0.0/0").has_within(range("2001:db8::/32")));
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/+8",
            "a/1",
        ] {
            assert!(Range::read(text).is_none(), "{text}");
        }
    }
}
