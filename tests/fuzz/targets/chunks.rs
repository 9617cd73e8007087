//! libFuzzer's entry to `checks::chunks`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::chunks(data));
