"""The tables of a collector's store, and what makes each version of them of the one before."""

_COUNTS = """
create table replica (id text not null, version integer not null) strict;
create table mark (
    process text, path text, generation integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null,
    primary key (process, path)
) strict, without rowid;
create table entry (
    path text primary key, born integer not null, last integer not null,
    p integer not null, pn integer not null, n integer not null, nn integer not null
) strict, without rowid;
create table register (
    path text primary key,
    stamp integer, writer text, value blob, floor_stamp integer, floor_writer text
) strict, without rowid;
"""
_LIVES = """
create table line (
    process text primary key, last integer not null, retired integer not null
) strict, without rowid;
create table closed (
    number integer primary key,
    key integer not null, started_ns integer not null, closed_ns integer not null
) strict;
alter table replica add column watermark_ns integer not null default 0;
insert into line select distinct process, 0, -1 from mark;
"""
_RESETS = """
alter table entry add column base_p integer not null default 0;
alter table entry add column base_pn integer not null default 0;
alter table entry add column base_n integer not null default 0;
alter table entry add column base_nn integer not null default 0;
alter table entry add column reset integer not null default 0;
"""
_SUMS = """
create table account (name text primary key, amounts text not null) strict, without rowid;
create table refused (
    process text, path text, generation integer, amount text not null,
    primary key (process, path, generation)
) strict, without rowid;
"""
_LOSSES = """
alter table line add column baseline integer not null default 0;
alter table replica add column lost_ns integer not null default 0;
alter table replica add column lower_bound text not null default '';
alter table replica add column replaces text not null default '';
create table run (number integer primary key, epoch text not null, opened integer not null) strict;
"""
_CLOCKS = """
create table clock (record text primary key, stamp integer not null) strict, without rowid;
create table member (
    parent text, replica text, host text not null, primary key (parent, replica)
) strict, without rowid;
"""
STEPS = (_COUNTS, _LIVES + _RESETS, _LOSSES + _CLOCKS + _SUMS)
"""What makes each schema of the one before it; 0 is an empty file."""
