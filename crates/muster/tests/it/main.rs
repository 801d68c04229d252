//! Stories at the boundary: the real program, real git, what the user sees.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod actions;
mod background;
mod backup;
mod called;
mod commands;
mod containers;
mod crash;
mod database;
mod demo;
mod dispatch;
mod engine;
mod escapes;
mod faults;
mod fetched;
mod forged;
mod formats;
mod front_door;
mod github;
mod ground;
mod groups;
mod hogs;
mod hook;
mod hostile;
mod images;
mod kept;
mod language;
mod network;
mod pages;
mod repositories;
mod restart;
mod run;
mod sandbox;
mod scene;
mod screen;
mod secrets;
mod serve;
mod server;
mod service;
mod services;
mod setup;
mod shell;
mod storage;
mod torture;
mod upgrade;
