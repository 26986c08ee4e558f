//! The `peerfold-bootstrap` program: see [`peerfold::bootstrap`].

fn main() -> std::process::ExitCode {
    peerfold::bootstrap::main()
}
