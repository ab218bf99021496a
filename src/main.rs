//! The door: everything behind it is the library.

fn main() -> std::process::ExitCode {
    weir::cli::main()
}
