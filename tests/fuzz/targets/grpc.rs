//! libFuzzer's entry to `checks::grpc`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringgate::checks::grpc(data));
