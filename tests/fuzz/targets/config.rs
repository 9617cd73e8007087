//! libFuzzer's entry to `checks::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::config(data));
