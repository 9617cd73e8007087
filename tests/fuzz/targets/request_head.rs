//! libFuzzer's entry to `checks::request_head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::request_head(data));
