//! Two numbers are added behind the wall.
use cellwall::{Config, Engine, Module};

fn main() -> Result<(), cellwall::Error> {
    let engine = Engine::new(&Config::default())?;
    let add = [0x48, 0x8d, 0x04, 0x37, 0xc3]; // lea rax, [rdi + rsi]; ret
    let module = Module::builder()
        .code(&add)
        .stack(0x10_0000, 0x1_0000)
        .build(&engine)?;
    for i in 0..20 {
        let t = std::time::Instant::now();
        let mut instance = engine.instantiate(&module)?;
        let a = t.elapsed();
        instance.call(module.entry(), &[40, 2])?;
        let r = instance.run()?;
        println!("{r} {a:?} {:?}", t.elapsed());
        if i == 19 {
            std::process::Command::new("sh").arg("-c").arg("for p in $(pgrep cellwall-worker); do cat /proc/$p/maps; grep -E 'Name|Uid|Cap|NoNew|Seccomp|Threads|Pid' /proc/$p/status; ls -la /proc/$p/fd /proc/$p/ns; ls -la /proc/$p/root/; cat /proc/$p/limits; done").status().unwrap();
            let t = std::time::Instant::now();
            for _ in 0..1000 {
                instance.call(module.entry(), &[40, 2])?;
                instance.run()?;
            }
            println!("{:?}", t.elapsed() / 1000);
            let t = std::time::Instant::now();
            drop(instance);
            println!("drop {:?}", t.elapsed());
        }
    }
    Ok(())
}
