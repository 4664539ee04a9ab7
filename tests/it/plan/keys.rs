//! `ringway keys`: is this a good key?
