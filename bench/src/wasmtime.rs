//! What wasmtime needs, which isolates by its compiler, within this process: instances from its
//! pooling allocator.

use std::time::Instant;

use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module,
    PoolingAllocationConfig, Store, TypedFunc,
};

use crate::measure::{Failure, Sampler, batch, each};

/// Touches so many pages of 4 KiB, and answers.
fn text(padding: usize, value: u32) -> String {
    // Of different places: the compiler drops what is overwritten at once.
    let store = |at| format!("(i32.store offset={at} (local.get 0) (i32.const {value}))");
    let padding: String = (0..padding).map(|number| store(number * 8)).collect();
    format!(
        "(module (memory 16)
          (func (export \"main\") (param $pages i32) (result i32) (local $page i32)
            (block $end (loop $next
              (br_if $end (i32.ge_u (local.get $page) (local.get $pages)))
              (i32.store (i32.shl (local.get $page) (i32.const 12)) (i32.const 1))
              (local.set $page (i32.add (local.get $page) (i32.const 1)))
              (br $next)))
            (local.get $page))
          (func (export \"never\") (param i32) {padding}))"
    )
}

fn engine() -> Result<Engine, Failure> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(16).total_memories(16);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Ok(Engine::new(&config)?)
}

fn prepared(engine: &Engine, text: &str) -> Result<InstancePre<()>, Failure> {
    let module = Module::new(engine, text)?;
    Ok(Linker::new(engine).instantiate_pre(&module)?)
}

/// The pages that it touches tell that it ran.
fn call(main: &TypedFunc<u32, u32>, store: &mut Store<()>, pages: u32) -> Result<(), Failure> {
    match main.call(&mut *store, pages)? {
        found if found == pages => Ok(()),
        other => Err(format!("{other} pages touched, not {pages}").into()),
    }
}

/// A call and its return.
pub(crate) fn calls() -> Result<Sampler, Failure> {
    const CALLS: u32 = 1000;
    let engine = engine()?;
    let module = prepared(&engine, &text(0, 0))?;
    let mut store = Store::new(&engine, ());
    let main = module
        .instantiate(&mut store)?
        .get_typed_func(&mut store, "main")?;
    Ok(Box::new(move || {
        batch(10, || {
            let start = Instant::now();
            for _ in 0..CALLS {
                call(&main, &mut store, 0)?;
            }
            Ok(each(start, CALLS))
        })
    }))
}

/// Store and instance, a call that touches four pages, and drop: of one module or of two in turn.
pub(crate) fn pooled(modules: u32) -> Result<Sampler, Failure> {
    const RUNS: u32 = 20;
    let engine = engine()?;
    let padding = if modules == 1 { 0 } else { 9_400 };
    let prepare = |value| prepared(&engine, &text(padding, value));
    let modules: Vec<_> = (0..modules).map(prepare).collect::<Result<_, _>>()?;
    Ok(Box::new(move || {
        batch(10, || {
            let start = Instant::now();
            for (module, _) in modules.iter().cycle().zip(0..RUNS) {
                let mut store = Store::new(&engine, ());
                let instance = module.instantiate(&mut store)?;
                let main = instance.get_typed_func(&mut store, "main")?;
                call(&main, &mut store, 4)?;
            }
            Ok(each(start, RUNS))
        })
    }))
}
