//! Which of what can train does, by the settings: a built-in model, or a command.

#[cfg(unix)]
use super::commanded::Commanded;
use super::{built_in::BuiltIn, training::Training};
use crate::{home::Home, node::NodeConfig, settings::Values, train::TrainOptions};

/// What trains, if the settings that are about it are right.
pub(super) enum Planned {
    BuiltIn(Box<BuiltIn>),
    #[cfg(unix)]
    Commanded(Commanded),
}

impl Planned {
    pub(super) fn of(values: &Values, options: TrainOptions) -> anyhow::Result<Self> {
        #[cfg(unix)]
        if let Some(commanded) = Commanded::planned(values, options)? {
            return Ok(Self::Commanded(commanded));
        }
        Ok(Self::BuiltIn(Box::new(BuiltIn::planned(values, options)?)))
    }

    /// Makes it ready. What a command needs is kept in this federation's part of the home.
    pub(super) fn prepared(self, home: &Home, config: &NodeConfig) -> anyhow::Result<Training> {
        #[cfg(not(unix))]
        let _ = (home, config);
        match self {
            Self::BuiltIn(built_in) => built_in.prepared(),
            #[cfg(unix)]
            Self::Commanded(commanded) => {
                let run_dir = home.run_dir(&config.federation_id())?;
                commanded.prepared(&run_dir, config.checks.clone(), config.stop.clone())
            }
        }
    }
}
