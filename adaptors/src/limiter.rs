//! [`Limiter`] refuses allocations past a limit.

mod adaptor;
mod reservation;
mod state;

pub use adaptor::Limiter;
pub use reservation::LimitReservation;
pub use state::LimiterState;
