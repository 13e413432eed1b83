//! Histories made by hand, each with one thing wrong.
