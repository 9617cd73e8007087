//! libFuzzer's entry to `checks::json`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::json(data));
