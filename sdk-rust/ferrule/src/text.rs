//! The manifest and the meta texts, made by the compiler, so that their bytes stand in the file as they are (rule R1).

use std::mem::size_of;

/// The longest text, its closing empty text included (rule R1).
const MAX_TEXT: usize = 64 << 10;

/// The length of `text(pairs)`. A value that may not stand in a text is a compile error.
pub const fn text_len(pairs: &[(&str, &str)]) -> usize {
    let mut len = 1;
    let mut i = 0;
    while i < pairs.len() {
        let value = pairs[i].1.as_bytes();
        let mut j = 0;
        while j < value.len() {
            assert!(value[j] != 0, "a value holds a NUL, which would end it (rule R3 of ferrule.h)");
            j += 1;
        }
        if !value.is_empty() {
            len += pairs[i].0.len() + 1 + value.len() + 1;
        }
        i += 1;
    }
    assert!(len <= MAX_TEXT, "the keys and values are longer than 65,536 bytes together (rule R1 of ferrule.h)");
    len
}

/// `key=value` texts, each with its NUL, and the empty one that ends them. A pair without a value is left out.
pub const fn text<const LEN: usize>(pairs: &[(&str, &str)]) -> [u8; LEN] {
    let mut out = [0; LEN];
    let mut at = 0;
    let mut i = 0;
    while i < pairs.len() {
        let key = pairs[i].0.as_bytes();
        let value = pairs[i].1.as_bytes();
        if !value.is_empty() {
            let mut j = 0;
            while j < key.len() {
                out[at] = key[j];
                at += 1;
                j += 1;
            }
            out[at] = b'=';
            at += 1;
            j = 0;
            while j < value.len() {
                out[at] = value[j];
                at += 1;
                j += 1;
            }
            at += 1;
        }
        i += 1;
    }
    out
}

/// The value of `name:`, checked by the compiler.
pub const fn plugin_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let mut valid = !bytes.is_empty() && bytes.len() <= 128;
    let mut i = 0;
    while i < bytes.len() {
        valid = valid && (bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'-' | b'.'));
        i += 1;
    }
    assert!(valid, "the name of a plug-in is 1 to 128 ASCII letters, digits, `_`, `-` and `.` (rule R1 of ferrule.h)");
    name
}

/// The value of `version:`, checked by the compiler.
pub const fn plugin_version(version: &str) -> &str {
    assert!(!version.is_empty(), "the version is empty; `env!(\"CARGO_PKG_VERSION\")` is the usual one");
    version
}

/// The longest schema of a configuration, its NUL included (rule R32).
const MAX_SCHEMA: usize = 1 << 20;

/// `config_schema:` as it stands in the file: the text, and a NUL.
#[repr(C)]
pub struct ConfigSchema<const LEN: usize> {
    text: [u8; LEN],
    nul: u8,
}

/// Bytes that are looked at together.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Block(u128, u128, u128, u128);

/// Not 0 when one of the bytes is.
const fn nuls(word: u128) -> u128 {
    const ONES: u128 = u128::MAX / 255; // 1 in each byte
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// Makes it of a text of LEN bytes. What may not stand there is a compile error.
pub const fn config_schema<const LEN: usize>(text: &str) -> ConfigSchema<LEN> {
    assert!(text.len() == LEN && LEN > 0, "the schema of the configuration is empty");
    assert!(LEN < MAX_SCHEMA, "the schema of the configuration is longer than 1 MiB (rule R32 of ferrule.h)");
    // An old compiler allows itself two million steps for a constant: so the bytes are copied at once, and looked at by
    // 64.
    // SAFETY: LEN bytes are there.
    let text = unsafe { *text.as_ptr().cast::<[u8; LEN]>() };
    let start = text.as_ptr();
    let mut i = 0;
    while i < LEN {
        let has_nul = if LEN - i < size_of::<Block>() {
            i += 1;
            text[i - 1] == 0
        } else {
            // SAFETY: so many bytes are there, and it need not be aligned.
            let block = unsafe { *start.add(i).cast::<Block>() };
            i += size_of::<Block>();
            nuls(block.0) | nuls(block.1) | nuls(block.2) | nuls(block.3) != 0
        };
        assert!(!has_nul, "the schema of the configuration holds a NUL, which would end it (rule R32 of ferrule.h)");
    }
    ConfigSchema { text, nul: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        const PAIRS: &[(&str, &str)] = &[("doc", "a\nb"), ("in", ""), ("out", "ö")];
        const TEXT: [u8; text_len(PAIRS)] = text(PAIRS);
        assert_eq!(std::str::from_utf8(&TEXT), Ok("doc=a\nb\0out=ö\0\0"));
        assert_eq!(text::<{ text_len(&[]) }>(&[]), [0]);
    }

    #[test]
    fn the_longest_text() {
        let value = "x".repeat(MAX_TEXT - "k=\0\0".len());
        assert_eq!(text_len(&[("k", &value)]), MAX_TEXT);
        std::panic::catch_unwind(|| text_len(&[("k2", &value)])).unwrap_err();
    }

    #[test]
    fn names() {
        for name in ["a", "Zz09_-.", &"n".repeat(128)] {
            assert_eq!(plugin_name(name), name);
        }
        for name in ["", "a b", "ä", &"n".repeat(129)] {
            let name = name.to_string();
            std::panic::catch_unwind(move || plugin_name(&name).len()).unwrap_err();
        }
    }

    #[test]
    fn a_value_has_no_nul() {
        std::panic::catch_unwind(|| text_len(&[("doc", "a\0b")])).unwrap_err();
        assert_eq!(text_len(&[("doc", "ab")]), "doc=ab\0\0".len());
    }

    #[test]
    fn the_schema_of_a_configuration() {
        static SCHEMA: ConfigSchema<12> = config_schema("{\"a\": true} ");
        assert_eq!((&SCHEMA.text, SCHEMA.nul), (b"{\"a\": true} ", 0));
        assert_eq!(std::mem::size_of_val(&SCHEMA), 13);
        // As long as may be.
        // SAFETY: spaces are UTF-8. Checked, it would be more than an old compiler does for a constant.
        const SPACES: &str = unsafe { std::str::from_utf8_unchecked(&[b' '; MAX_SCHEMA - 1]) };
        static LONGEST: ConfigSchema<{ MAX_SCHEMA - 1 }> = config_schema(SPACES);
        assert_eq!((LONGEST.text[MAX_SCHEMA - 2], LONGEST.nul), (b' ', 0));
        fn refused<const LEN: usize>(text: String) -> bool {
            std::panic::catch_unwind(move || config_schema::<LEN>(&text).nul).is_err()
        }
        assert!(refused::<0>(String::new()));
        assert!(refused::<3>("{}".to_string()));
        assert!(refused::<3>("{}\0".to_string()));
        // In each place of a block, and behind the last one.
        for at in 0..70 {
            let mut text = "\u{80}\x01\x7f\u{7ff}".repeat(12)[..70].to_string().into_bytes();
            assert!(!refused::<70>(String::from_utf8(text.clone()).unwrap()));
            text[at] = 0;
            // Text again, of which only that byte is a NUL.
            let text: Vec<u8> = text.into_iter().map(|byte| if byte < 0x80 { byte } else { b'a' }).collect();
            assert!(refused::<70>(String::from_utf8(text).unwrap()), "{at}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(plugin_version("1.0.0-rc.1"), "1.0.0-rc.1");
        std::panic::catch_unwind(|| plugin_version("").len()).unwrap_err();
    }
}
