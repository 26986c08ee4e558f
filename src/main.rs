//! The `peerfold` program: see [`peerfold::cli`].

fn main() -> std::process::ExitCode {
    peerfold::cli::main()
}
