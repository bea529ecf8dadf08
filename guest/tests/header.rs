//! The C header says what `vmctx` says.

use vmctx::{map, native};

const HEADER: &str = include_str!("../include/cellwall.h");

#[test]
fn numbers_and_addresses_agree() {
    let expected = [
        format!("#define CELLWALL_HOSTCALL_ADDRESS {:#x}u\n", map::HOSTCALL),
        format!("#define CELLWALL_FINISH_ADDRESS {:#x}u\n", map::FINISH),
        format!("#define CELLWALL_PANIC_STATUS {}\n", native::PANIC_STATUS),
        format!("CELLWALL_READ = {},", native::READ),
        format!("CELLWALL_WRITE = {},", native::WRITE),
        format!("CELLWALL_LOG = {},", native::LOG),
        format!("CELLWALL_PANIC = {},", native::PANIC),
        format!("CELLWALL_STDIN = {},", native::STDIN),
        format!("CELLWALL_STDOUT = {},", native::STDOUT),
        format!("CELLWALL_STDERR = {},", native::STDERR),
        "#define CELLWALL_TRANSFER_BYTES_MAX (2u << 20)\n".to_owned(),
    ];
    for line in expected {
        assert!(
            HEADER.contains(&line),
            "guest/include/cellwall.h lacks: {line}"
        );
    }
    assert_eq!(native::TRANSFER_BYTES_MAX, 2 << 20);
}
