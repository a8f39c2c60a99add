//! Writes WebAssembly modules of version 2.0 that were made at random to standard output, each behind its length (4 bytes, little endian).
//! Each ends by itself: it counts what it runs.

use std::io::{self, BufWriter, Write};

use arbitrary::Unstructured;
use wasm_smith::{Config, Module};

fn main() -> io::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|arg| {
        arg.parse()
            .expect("found no number, expected: smith SEED COUNT")
    });
    let (mut seed, count): (u64, u64) =
        (numbers.next().unwrap_or(1), numbers.next().unwrap_or(100));
    let mut out = BufWriter::new(io::stdout().lock());
    let mut made = 0;
    while made < count {
        let bytes: Vec<u8> = (0..4096 + 64 * (made as usize % 64))
            .map(|_| {
                // splitmix64
                seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ (z >> 31)) as u8
            })
            .collect();
        let Ok(mut module) = Module::new(config(), &mut Unstructured::new(&bytes)) else {
            continue;
        };
        if module.ensure_termination(1000).is_err() {
            continue;
        }
        let module = module.to_bytes();
        out.write_all(&(module.len() as u32).to_le_bytes())?;
        out.write_all(&module)?;
        made += 1;
    }
    out.flush()
}

/// All of version 2.0, and no more; nothing is imported, all is exported.
fn config() -> Config {
    Config {
        bulk_memory_enabled: true,
        multi_value_enabled: true,
        reference_types_enabled: true,
        saturating_float_to_int_enabled: true,
        sign_extension_ops_enabled: true,
        simd_enabled: true,
        canonicalize_nans: true,
        exceptions_enabled: false,
        extended_const_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        shared_everything_threads_enabled: false,
        max_imports: 0,
        max_tags: 0,
        max_memories: 1,
        max_memory32_bytes: 1 << 20,
        min_funcs: 1,
        max_funcs: 12,
        max_tables: 3,
        max_table_elements: 1000,
        table_max_size_required: true,
        export_everything: true,
        ..Config::default()
    }
}
