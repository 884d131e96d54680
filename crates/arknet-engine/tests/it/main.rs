//! The embedded engine with the model that ships.

mod answers;
mod limits;
mod loading;
mod model;
