//! A node in this process, a scripted provider behind it, and peers that mean it harm.

mod fixture;
mod hostile;
mod serving;
