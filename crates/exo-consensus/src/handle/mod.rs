//! One file for each input; [`Replica::step`](crate::Replica::step) routes them.

pub(crate) mod again;
mod checkpoint;
mod commit;
mod content;
mod epoch;
mod execute;
pub(crate) mod new_view;
mod pre_prepare;
mod prepare;
mod request;
pub(crate) mod sign_again;
pub(crate) mod state_transfer;
pub(crate) mod status;
mod tick;
pub(crate) mod view_change;
