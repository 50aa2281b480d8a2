/* Following a log: one client, the edges that it reaches one after the other, and a Redis that forgets.
 *
 * An entry is named by its seq and the epoch that it was written under; commit.pml shows that under one epoch there is one
 * history, so an entry names all that stands before it. Every commit writes one entry here; its number is its seq.
 *
 * The client's connection may break between any two messages. It then attaches anew, to the edge that it left (which has
 * kept what it knows of the log) or to another one (which knows nothing). What Redis publishes may be lost in silence.
 */
#include "common.pml"

#ifndef ENTRIES
#define ENTRIES 3
#endif
#ifndef GRANTS
#define GRANTS 3
#endif
#ifndef BREAKS
#define BREAKS 2
#endif
#ifndef TRIMS
#define TRIMS 0
#endif
#ifdef SPLIT_RESET
#define WIRE 2
#else
#define WIRE 1
#endif
#define SEQS 4
#define EPOCHS 8

typedef Log { byte epoch[SEQS] };  /* by seq; [0] is the place before the first entry */
typedef Redis {
  byte epoch;      /* the newest grant's */
  byte seq;        /* the head, and the commit number */
  Log log;
  byte trimmed;    /* the seq of the last trimmed entry; its epoch stays in `log` */
};
Redis now, replica, nothing;
Log before[EPOCHS];     /* by epoch and seq: the epoch of the entry before that one. Not in Redis */

typedef Cursor { byte seq; byte epoch };
Cursor built;           /* the client: the last entry of what it has built up */
Cursor resume;          /* where it would go on from */
byte breaks;

#define ATTACHED 1
#define UPDATE   2
#define RESET    3
chan wire = [WIRE] of { byte, byte, byte };              /* to the client: what, and a cursor */
chan live = [2] of { byte, byte, byte };              /* published: the epoch before, seq, epoch */
chan pending = [1] of { byte, byte, byte };           /* Feed._pending */
bit subscribed;

#define AWAY 0          /* no connection */
#define JOINED 1        /* the edge has subscribed */
#define BEGUN 2         /* ... and there is a feed */
#define HERE 3          /* `attached` was told */
byte at = AWAY;

Cursor head;            /* Feed.head */
byte number;            /* Feed.number */
byte last;              /* Feed._epoch */
Cursor recent;          /* Feed._recent: where the newest entry that was relayed follows */
bit feed, suspect, reading;
Cursor place;           /* Tail.position */
bit following, owed;    /* it is live; it owes a reset to `owing` */
Cursor owing;
Redis page;             /* the answer to a read that is on its way */
bit answered;

inline copy(to, from) {
  to.epoch = from.epoch; to.seq = from.seq; to.trimmed = from.trimmed;
  to.log.epoch[1] = from.log.epoch[1]; to.log.epoch[2] = from.log.epoch[2]; to.log.epoch[3] = from.log.epoch[3]
}
/* The subscriber's connection is lost, too. It may hear of it late, and hears what was sent to it before. */
inline on_failover() { subscribed = 0 }
inline put(into, num_, era_) { into.epoch = era_; into.seq = num_ }

/* log.lua: the log confirms a cursor, where it holds this very entry, or it is the last trimmed one. */
#ifdef BY_SEQ_ALONE
#define CONFIRMED(redis, c) (c.seq >= redis.trimmed && c.seq <= redis.seq)
#else
#define CONFIRMED(redis, c) (c.seq >= redis.trimmed && c.seq <= redis.seq && redis.log.epoch[c.seq] == c.epoch)
#endif

inline write() {
  before[epoch].epoch[now.seq + 1] = now.log.epoch[now.seq];
  now.seq++;
  now.log.epoch[now.seq] = epoch;
  seq = now.seq;
  if
  :: subscribed && nfull(live) -> live ! now.log.epoch[now.seq - 1], now.seq, epoch
  :: true -> skip
  fi
}

/* commit.lua, as commit.pml shows it: under one grant entry after entry, the newest one a second time where Redis has
 * lost it and its answer never came; else under a new grant. What is published may be lost in silence. */
proctype writer() {
  byte epoch, seq;
  do
  :: atomic { now.seq < ENTRIES && clock < GRANTS ->
       next_epoch(now.epoch, now.epoch); epoch = now.epoch; seq = now.seq; write() }
  :: atomic { now.seq < ENTRIES && epoch && epoch == now.epoch && (seq == now.seq || seq == now.seq + 1) -> write() }
  :: d_step { TRIMS && now.trimmed == 0 && now.seq > 1 -> now.trimmed = 1 } /* never the newest entry */
  od
}

/* ---- the edge: Feed (orbit/protocol/replay.py), driven by orbit/edge/hub.py */

inline relay(num, era) {
  put(recent, head.seq, head.epoch);
  put(head, num, era);
  if
  :: following && nfull(wire) -> wire ! UPDATE, num, era; put(place, num, era)
  :: following && full(wire) -> following = 0 /* it reads too slowly: cut off, to read from the log */
  :: !following -> skip
  fi
}

/* Feed._apply */
inline apply(prior, num, era) {
  if
#ifndef NO_PREDECESSOR
  :: num <= number && (era == last || era == head.epoch) -> skip
  :: !(num <= number && (era == last || era == head.epoch)) && (num != head.seq + 1 || prior != head.epoch) -> suspect = 1
#endif
  :: else -> number = num; last = era; relay(num, era)
  fi
}

/* Feed.on_live, _keep */
inline hear(prior, num, era) {
  if
  :: !suspect && !reading -> apply(prior, num, era)
  :: (suspect || reading) && nfull(pending) -> pending ! prior, num, era
  :: (suspect || reading) && full(pending) -> drop(pending); suspect = 1
  fi
}
inline drop(channel) {
  do
  :: nempty(channel) -> channel ? _, _, _
  :: empty(channel) -> break
  od;
  skip
}

/* Feed.on_page, on_reset */
inline take_page() {
  reading = 0; answered = 0;
  if
  :: CONFIRMED(page, head) ->
     if
     :: page.seq != number -> last = 0
     :: else
     fi;
     number = page.seq;
     do
     :: head.seq < page.seq -> s = head.seq + 1; e = page.log.epoch[s]; relay(s, e)
     :: else -> break
     od;
     do
     :: nempty(pending) -> pending ? p, s, e; apply(p, s, e)
     :: empty(pending) -> break
     od
  :: else ->
     suspect = 1; last = 0; number = page.seq;
     put(head, page.trimmed, page.log.epoch[page.trimmed]); put(recent, 99, 0);
     if
     :: following -> following = 0; owed = 1; put(owing, head.seq, head.epoch)
     :: else
     fi
  fi;
  p = 0; s = 0; e = 0;
  copy(page, nothing)
}

proctype hub() {
  byte p, s, e;
  do
  :: d_step { nempty(live) && feed -> live ? p, s, e; hear(p, s, e); p = 0; s = 0; e = 0 }
  :: d_step { feed && suspect && !reading -> reading = 1; suspect = 0; /* Feed.begin_read */
#ifndef PENDING_KEPT
       drop(pending)
#endif
     }
  :: d_step { reading && !answered -> answered = 1; copy(page, now) }
  :: d_step { answered -> take_page() }
  :: d_step { feed && !suspect && !reading && number != now.seq -> suspect = 1 } /* recent.lua, orbit/edge/recent.py */
  :: d_step { !subscribed && at != AWAY -> drop(live); subscribed = 1; /* Subscriber.on_gap, Edge.recheck */
#ifndef NO_RECHECK
       suspect = feed
#endif
     }
  od
}

/* ---- one attachment: orbit/edge/dialogue.py, follower.py */

#define SURE (!suspect && !reading) /* else what is kept may be what Redis has lost */
#ifdef JOINED_ANYWHERE
#define AT_HEAD true
#else
#define AT_HEAD (place.seq == head.seq && place.epoch == head.epoch)
#endif
#define ONE_BEHIND (SURE && !AT_HEAD && place.seq == recent.seq && place.epoch == recent.epoch)
inline join() { /* Follower._join, Feed.since */
  if
  :: AT_HEAD -> following = 1
  :: ONE_BEHIND && nfull(wire) -> wire ! UPDATE, head.seq, head.epoch; put(place, head.seq, head.epoch); following = 1
  :: !AT_HEAD && (!ONE_BEHIND || full(wire)) -> skip
  fi
}

inline tell_reset(num, era) {
#ifndef RESET_FORGOTTEN
  wire ! RESET, num, era;
#endif
  put(place, num, era)
}

proctype attachment() {
  do
  :: atomic { at == AWAY -> at = JOINED; /* Hub.join: another edge, or the same with its feed, if that is there still */
       if
       :: feed -> skip
       :: true -> feed = 0; suspect = 0; reading = 0; answered = 0; drop(live); drop(pending); subscribed = 1;
          last = 0; put(recent, 99, 0); put(head, 0, 0); number = 0; copy(page, nothing)
       fi }
  :: d_step { at == JOINED -> at = BEGUN; /* attach.lua, Watch.begin */
       if
       :: !feed -> feed = 1; put(head, now.seq, now.log.epoch[now.seq]); number = now.seq
       :: else
       fi }
  :: d_step { at == BEGUN -> at = HERE; /* Dialogue._begin: `attached`, and a reset right after it */
       if
       :: (resume.seq == head.seq && resume.epoch == head.epoch) || CONFIRMED(now, resume) ->
          wire ! ATTACHED, resume.seq, resume.epoch;
          put(place, resume.seq, resume.epoch)
       :: else ->
#ifdef SPLIT_RESET
          wire ! ATTACHED, now.trimmed, now.log.epoch[now.trimmed];
#endif
          tell_reset(now.trimmed, now.log.epoch[now.trimmed]) /* one frame, which arrives whole or not at all */
       fi;
       join() }
  :: d_step { at == HERE && owed && nfull(wire) -> owed = 0; tell_reset(owing.seq, owing.epoch); put(owing, 0, 0) }
  :: d_step { at == HERE && !owed && !following && nfull(wire) && !AT_HEAD &&
       (!CONFIRMED(now, place) || place.seq < now.seq) -> /* Follower._step: a page of its own */
       if
       :: !CONFIRMED(now, place) -> tell_reset(now.trimmed, now.log.epoch[now.trimmed])
       :: else -> put(place, place.seq + 1, now.log.epoch[place.seq + 1]); wire ! UPDATE, place.seq, place.epoch
       fi;
       join() }
  :: d_step { at == HERE && !owed && !following && AT_HEAD -> join() }
  :: d_step { at == HERE && !owed && !following && !suspect && !reading && CONFIRMED(now, place) && place.seq == now.seq &&
       !AT_HEAD -> suspect = 1 } /* one of the two is behind */
  od
}

/* ---- the client: orbit/protocol/sessions.py, clients/js */

proctype client() {
  byte what, s, e;
  do
  :: d_step { nempty(wire) -> wire ? what, s, e;
       if
       :: what == UPDATE ->
          /* The promise: "the updates of one log, each once, in order": this one follows the last one it has, in the
           * log that it belongs to. */
          assert(s == built.seq + 1 && before[e].epoch[s] == built.epoch);
          put(built, s, e)
       :: what == RESET -> put(built, s, e)
       :: else
       fi;
       put(resume, s, e); what = 0; s = 0; e = 0 }
  :: d_step { at != AWAY && breaks < BREAKS -> breaks++; at = AWAY; drop(wire);
       following = 0; owed = 0; put(owing, 0, 0); put(place, 0, 0) }
  :: timeout ->
     /* "It is never silent": when all is quiet, the client has what the log holds. */
     assert(at == HERE && built.seq == now.seq && built.epoch == now.log.epoch[now.seq]);
     break
  od
}

proctype server() {
  replicate_or_fail_over()
}

init {
  atomic { put(recent, 99, 0); run writer(); run hub(); run attachment(); run client(); run server() }
}
