//! libFuzzer's entry to `checks::changes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::changes(data));
