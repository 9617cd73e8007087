//! libFuzzer's entry to `checks::signatures`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::signatures(data));
