//! libFuzzer's entry to `checks::target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::target(data));
