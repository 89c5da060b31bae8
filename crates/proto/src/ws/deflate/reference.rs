//! A second implementation of RFC 1951, slow and plain, that holds the sender to its window.

use std::collections::BTreeMap;

pub(super) struct Inflater {
    pub(super) out: Vec<u8>,
    window: usize,
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Option<usize> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Some(usize::from(bit))
    }

    fn number(&mut self, bits: usize) -> Option<usize> {
        (0..bits).try_fold(0, |number, i| Some(number | self.bit()? << i))
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }
}

/// Symbols by (length of code, code).
struct Codes(BTreeMap<(usize, usize), usize>);

impl Codes {
    fn new(lengths: &[usize]) -> Codes {
        let (mut codes, mut code) = (BTreeMap::new(), 0);
        for length in 1..=15 {
            for symbol in (0..lengths.len()).filter(|&symbol| lengths[symbol] == length) {
                codes.insert((length, code), symbol);
                code += 1;
            }
            code <<= 1;
        }
        Codes(codes)
    }

    fn symbol(&self, bits: &mut Bits) -> Option<usize> {
        let (mut code, mut length) = (0, 0);
        loop {
            code = code << 1 | bits.bit()?;
            length += 1;
            if let Some(symbol) = self.0.get(&(length, code)) {
                return Some(*symbol);
            }
            if length == 15 {
                return None;
            }
        }
    }
}

impl Inflater {
    pub(super) fn new(window: usize) -> Inflater {
        Inflater {
            out: Vec::new(),
            window,
        }
    }

    /// None if the bytes are no DEFLATE data or refer back further than the window.
    pub(super) fn inflate(&mut self, bytes: &[u8]) -> Option<()> {
        let mut bits = Bits { bytes, at: 0 };
        while bits.at.div_ceil(8) < bytes.len() {
            let is_final = bits.bit()? == 1;
            match bits.number(2)? {
                0 => self.stored(&mut bits)?,
                1 => {
                    let lengths: Vec<usize> = (0..288)
                        .map(|s| match s {
                            0..144 => 8,
                            144..256 => 9,
                            256..280 => 7,
                            _ => 8,
                        })
                        .collect();
                    self.compressed(&mut bits, &Codes::new(&lengths), &Codes::new(&[5; 30]))?;
                }
                2 => {
                    let (literals, distances) = Inflater::tables(&mut bits)?;
                    self.compressed(&mut bits, &literals, &distances)?;
                }
                _ => return None,
            }
            if is_final {
                bits.align();
            }
        }
        Some(())
    }

    fn stored(&mut self, bits: &mut Bits) -> Option<()> {
        bits.align();
        let (len, check) = (bits.number(16)?, bits.number(16)?);
        if len != check ^ 0xffff {
            return None;
        }
        for _ in 0..len {
            self.out.push(bits.number(8)? as u8);
        }
        Some(())
    }

    fn tables(bits: &mut Bits) -> Option<(Codes, Codes)> {
        const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let (literals, distances) = (bits.number(5)? + 257, bits.number(5)? + 1);
        let mut lengths = [0; 19];
        for place in &ORDER[..bits.number(4)? + 4] {
            lengths[*place] = bits.number(3)?;
        }
        let codes = Codes::new(&lengths);
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            match codes.symbol(bits)? {
                16 => {
                    let last = *lengths.last()?;
                    let repeat = bits.number(2)? + 3;
                    lengths.extend(vec![last; repeat]);
                }
                17 => lengths.extend(vec![0; bits.number(3)? + 3]),
                18 => lengths.extend(vec![0; bits.number(7)? + 11]),
                length => lengths.push(length),
            }
        }
        let (literals, distances) = lengths.split_at(literals);
        Some((Codes::new(literals), Codes::new(distances)))
    }

    fn compressed(&mut self, bits: &mut Bits, literals: &Codes, distances: &Codes) -> Option<()> {
        loop {
            let length = match literals.symbol(bits)? {
                256 => return Some(()),
                symbol @ 0..256 => {
                    self.out.push(symbol as u8);
                    continue;
                }
                symbol @ 257..265 => symbol - 254,
                symbol @ 265..285 => {
                    let extra = (symbol - 261) / 4;
                    ((4 + (symbol - 261) % 4) << extra) + 3 + bits.number(extra)?
                }
                285 => 258,
                _ => return None,
            };
            let distance = match distances.symbol(bits)? {
                symbol @ 0..4 => symbol + 1,
                symbol @ 4..30 => {
                    let extra = (symbol - 2) / 2;
                    ((2 + symbol % 2) << extra) + 1 + bits.number(extra)?
                }
                _ => return None,
            };
            if distance > self.window || distance > self.out.len() {
                return None;
            }
            for _ in 0..length {
                self.out.push(self.out[self.out.len() - distance]);
            }
        }
    }
}
