//! libFuzzer's entry to `checks::lines`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::lines(data));
