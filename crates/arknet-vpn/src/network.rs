use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No address is left in it.
    #[error("no address is left in this network")]
    Full,
    /// Not an address and a length.
    #[error("a network is written as 10.77.0.0/24, an address in it as 10.77.0.1/24")]
    Syntax,
    /// Not a network that machines can be put into.
    #[error("a tunnel's network is private (such as 10.77.0.0/24) and has 16 to 30 bits")]
    Unsuitable,
}

/// An address and how many of its first bits name the network.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Network {
    /// The address of the network, or one in it.
    pub address: IpAddr,
    /// The bits that name the network.
    pub bits: u8,
}

impl Network {
    /// One address alone.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Whether it stands for everything: the default route.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.bits == 0
    }

    /// The network without the bits of the machine.
    #[must_use]
    pub fn truncated(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() & mask_v4(self.bits)).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & mask_v6(self.bits)).into()),
        };
        Self { address, bits: self.bits }
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let alike = self.address.is_ipv4() == other.address.is_ipv4();
        alike
            && other.bits >= self.bits
            && Self { bits: self.bits, ..*other }.truncated() == self.truncated()
    }

    /// Whether machines of a tunnel can be given addresses in it.
    pub fn check_for_machines(&self) -> Result<(), NetworkError> {
        match self.address {
            IpAddr::V4(ip) if ip.is_private() && (16..=30).contains(&self.bits) => Ok(()),
            _ => Err(NetworkError::Unsuitable),
        }
    }

    /// The first address for a machine that is not among those taken.
    pub fn free_address(&self, taken: &[IpAddr]) -> Result<Ipv4Addr, NetworkError> {
        self.check_for_machines()?;
        let IpAddr::V4(first) = self.truncated().address else {
            return Err(NetworkError::Unsuitable);
        };
        let (first, machines) = (first.to_bits(), (1_u32 << (32 - self.bits)) - 2);
        let addresses = (1..=machines).map(|n| Ipv4Addr::from(first + n));
        let mut free = addresses.filter(|address| !taken.contains(&IpAddr::V4(*address)));
        free.next().ok_or(NetworkError::Full)
    }
}

fn mask_v4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}

fn mask_v6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads an address and a length; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
        let most = Self::single(address).bits;
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| NetworkError::Syntax)?
            }
            Some(_) => return Err(NetworkError::Syntax),
        };
        if bits > most {
            return Err(NetworkError::Syntax);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_reads_what_it_writes() {
        for text in ["10.77.0.1/24", "0.0.0.0/0", "fd00::1/64", "::/0", "192.0.2.1/32"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("10.0.0.1").to_string(), "10.0.0.1/32");
        for bad in ["", "x", "10.0.0.1/33", "fd00::/129", "10.0.0.1/", "10.0.0.1/+8", "10.0/8"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::Syntax), "{bad}");
        }
    }

    #[test]
    fn one_network_lies_in_another() {
        assert!(network("10.77.0.0/24").contains(&network("10.77.0.9/32")));
        assert!(network("10.77.0.5/24").contains(&network("10.77.0.0/24")));
        assert!(network("0.0.0.0/0").contains(&network("10.77.0.0/24")));
        assert!(!network("10.77.0.0/24").contains(&network("10.77.1.9/32")));
        assert!(!network("10.77.0.0/24").contains(&network("10.77.0.0/16")));
        assert!(!network("0.0.0.0/0").contains(&network("fd00::1/128")));
        assert!(network("fd00::/64").contains(&network("fd00::1/128")));
    }

    #[test]
    fn machines_get_the_first_address_that_is_free() {
        let taken: Vec<IpAddr> = ["10.77.0.1", "10.77.0.3"].map(|ip| ip.parse().unwrap()).to_vec();
        let free = |text: &str, taken: &[IpAddr]| network(text).free_address(taken);
        assert_eq!(free("10.77.0.0/24", &taken).unwrap().to_string(), "10.77.0.2");
        assert_eq!(free("10.77.0.9/30", &[]).unwrap().to_string(), "10.77.0.9");
        let all = ["10.77.0.9", "10.77.0.10"].map(|ip| ip.parse().unwrap());
        assert_eq!(free("10.77.0.9/30", &all), Err(NetworkError::Full));
        for bad in ["8.8.8.0/24", "10.0.0.0/8", "10.77.0.0/31", "fd00::/64"] {
            assert_eq!(free(bad, &[]), Err(NetworkError::Unsuitable), "{bad}");
        }
    }
}
