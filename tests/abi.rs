//! The examples of `docs/abi.md`, assembled and run: the contract is what they say it is.
//!
//! Each fenced `asm` block is a guest. Its comments say what the host does and what must come of
//! it, in order: `# call: ARGS`, `# expect: INTERRUPT`, `# answer: VALUE`. A block that expects
//! nothing fails, so that no example goes untested.

mod assembler;
mod example;

use cellwall::abi::{CODE_WINDOW, FINISH, GAS, HOSTCALL, OUT_OF_GAS};
use cellwall::{Engine, Hostcall, Instance, Interrupt, Module, Protection};

use self::example::{Act, Example};

const CONTRACT: &str = include_str!("../docs/abi.md");

/// The memory that the page says its examples have.
const DATA: u64 = 0x2_0000;
const STACK: u64 = 0x10_0000;
const BYTES: u64 = 0x1_0000;

#[test]
fn examples_do_what_the_contract_says() {
    let compiler = match assembler::find() {
        Ok(compiler) => compiler,
        Err(found) => return absence::absent("c-compiler", &found),
    };
    let examples = example::all(CONTRACT);
    assert!(
        examples.len() > 10,
        "found {} examples in docs/abi.md",
        examples.len()
    );
    let engine = crate::harness::engine();
    let failures: Vec<String> = examples
        .iter()
        .filter_map(|example| {
            let code = assembler::assemble(&compiler, &example.source);
            let outcome = code.and_then(|code| run(&engine, &code, example));
            outcome
                .err()
                .map(|problem| format!("docs/abi.md:{}: {problem}", example.line))
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_contract_names_the_addresses_that_the_library_exports() {
    for address in [HOSTCALL, FINISH, OUT_OF_GAS, GAS, CODE_WINDOW.start] {
        let text = format!("`{address:#x}`");
        assert!(CONTRACT.contains(&text), "docs/abi.md does not say {text}");
    }
}

fn run(engine: &Engine, code: &[u8], example: &Example) -> Result<(), String> {
    let failed = |error: cellwall::Error| error.to_string();
    let module = Module::builder()
        .code(code)
        .zeroed(DATA, BYTES, Protection::ReadWrite)
        .stack(STACK, BYTES)
        .build(engine)
        .map_err(failed)?;
    let mut instance = engine.instantiate(&module).map_err(failed)?;
    instance.set_deadline(std::time::Duration::from_secs(10));
    for (number, act) in example.acts.iter().enumerate() {
        match act {
            Act::Call(args) => instance.call(module.entry(), args).map_err(failed)?,
            Act::Answer(value) => instance.answer(*value).map_err(failed)?,
            Act::Expect(expected) => expect(&mut instance, expected)
                .map_err(|problem| format!("step {}: {problem}", number + 1))?,
        }
    }
    Ok(())
}

fn expect(instance: &mut Instance, expected: &str) -> Result<(), String> {
    let found = match instance.run() {
        Ok(interrupt) => describe(&interrupt),
        Err(error) => error.to_string(),
    };
    // What the page leaves out, the program counter say, may follow after a comma.
    let rest = found.strip_prefix(expected);
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(',')) {
        Ok(())
    } else {
        Err(format!("expected \"{expected}\", found \"{found}\""))
    }
}

/// As the library shows it, but a hostcall with its arguments.
fn describe(interrupt: &Interrupt) -> String {
    match interrupt {
        Interrupt::Hostcall(Hostcall { number, args }) => {
            let args: Vec<String> = args.iter().map(u64::to_string).collect();
            format!("hostcall {number} ({})", args.join(" "))
        }
        other => other.to_string(),
    }
}
