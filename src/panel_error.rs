//! The error with which `panel` does not start. A build without the feature `panel` has another one.

#[cfg(feature = "panel")]
pub use bluegreen_panel::PanelError;

#[cfg(not(feature = "panel"))]
pub use self::missing::PanelError;

#[cfg(not(feature = "panel"))]
mod missing {
    use bluegreen_text::explain::Explain;

    /// The panel is not part of this build.
    #[derive(Debug, thiserror::Error)]
    #[error("this build of bluegreen has no control panel")]
    pub struct PanelError;

    impl Explain for PanelError {
        fn hint(&self) -> Option<String> {
            Some("build it with `cargo build --release`".into())
        }

        fn exit_status(&self) -> u8 {
            2
        }
    }
}
