#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| clutch_executor::fuzzing::group_files(data));
