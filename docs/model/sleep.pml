/* Falling asleep and being woken: append, work, commit, release, and a Redis that forgets.
 *
 * One worker at a time holds the transaction (commit.pml shows that no other gets anything done). What tells it of a
 * message (pub/sub, a renewal's answer) may come late or never. A message that it has read it answers with a commit, or
 * keeps for later, as `wait_message` does: the worker knows of it, so the transaction may sleep over it.
 *
 * An inbox entry's id is its place, then digits drawn by whoever appended it; so after a failover another entry of the
 * same place is another one.
 */
#include "common.pml"

#ifndef CLAIMS
#define CLAIMS 3
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#define NONE 0
#define ROOM 3

typedef Redis {
  byte status;        /* meta: READY (pending), RUNNING, IDLE */
  byte epoch;
  byte number;
  byte received;      /* how many entries were ever put into the inbox */
  byte entry[ROOM];   /* by place: the message there, NONE: answered */
  bit ready;          /* it stands in the ready set */
};
Redis now, replica, nothing;
byte claims, messages;
byte known[MESSAGES + 1];  /* the newest grant whose worker has read this message: not in Redis */

inline copy(to, from) {
  to.status = from.status; to.epoch = from.epoch; to.number = from.number; to.received = from.received;
  to.entry[0] = from.entry[0]; to.entry[1] = from.entry[1]; to.entry[2] = from.entry[2]; to.ready = from.ready
}
inline on_failover() { skip }

/* "Nothing to do until a message or a timer": who is idle has no message that its worker hasn't read; who is ready can be
 * claimed. Nobody else would ever look again. */
#define KNOWN(place) (now.entry[place] == NONE || known[now.entry[place]] == now.epoch)
#define MAY_SLEEP (KNOWN(0) && KNOWN(1) && KNOWN(2))
inline check() {
  assert(now.status != IDLE || MAY_SLEEP);
  assert(now.status != READY || now.ready)
}

/* append.lua, and lib/wake.lua, rouse: a message that is stored wakes what is idle. */
inline append() {
  messages++;
  now.entry[now.received] = messages;
  now.received++;
  if
#ifndef NOT_ROUSED
  :: now.status == IDLE -> now.status = READY; now.ready = 1
#endif
  :: else -> skip /* the owner is told, if it hears it */
  fi;
  check()
}

/* claim.lua */
inline claim(e, n) {
  claims++;
  next_epoch(now.epoch, now.epoch);
  now.status = RUNNING; now.ready = 0;
  e = now.epoch; n = now.number
}

/* release.lua with 'idle': ready, not idle, where the number is another one, or where something stands in the inbox after
 * the entry that the worker saw last. `at`, `id`: that entry's place (from 1) and message. */
#ifdef BY_PLACE_ALONE
#define NEWER(place, at, id) (now.entry[place] != NONE && place + 1 > at)
#else
#define NEWER(place, at, id) (now.entry[place] != NONE && place + 1 >= at && now.entry[place] != id)
#endif
#ifdef IDLE_OVER_UNREAD
#define UNREAD(at, id) false
#else
#define UNREAD(at, id) (NEWER(0, at, id) || NEWER(1, at, id) || NEWER(2, at, id))
#endif
#ifdef NUMBER_NOT_COMPARED
#define REWOUND(n) false
#else
#define REWOUND(n) (now.number != n)
#endif
#ifdef RECEIVED_NOT_COMPARED
#define LOST(at) false
#else
#define LOST(at) (now.received < at) /* the entry seen last was lost, and its place isn't taken again */
#endif
inline release(e, n, at, id) {
  if
  :: now.status == RUNNING && now.epoch == e ->
     if
     :: REWOUND(n) || LOST(at) || UNREAD(at, id) -> now.status = READY; now.ready = 1
     :: else -> now.status = IDLE
     fi;
     check()
  :: else -> skip
  fi
}

/* work.lua: the next entry after the one seen last; `at` is GONE where Redis lost that one (its place was never reached,
 * or another entry stands there), or where the grant is over. */
#define GONE 99
#ifdef HIDDEN_BEHIND_THE_LAST
#define TAKEN_BACK false
#else
#define TAKEN_BACK (now.received < at || (at && now.entry[at - 1] != NONE && now.entry[at - 1] != id))
#endif
inline read(e, at_, id_) {
  if
  :: now.epoch != e || now.status != RUNNING || now.number < number || TAKEN_BACK -> at_ = GONE; id_ = NONE
  :: else ->
     i = at_;
     do
     :: i < ROOM && now.entry[i] == NONE -> i++
     :: else -> break
     od;
     if
     :: i < ROOM -> at_ = i + 1; id_ = now.entry[i]; known[id_] = e
     :: else -> skip
     fi;
     i = 0
  fi
}

#define ANSWERABLE (id && now.epoch == epoch && now.number == number && now.status == RUNNING && now.entry[at - 1] == id)

/* An actor under one grant after the other: orbit/worker/handlers.py, Attendant; slots.py. */
proctype worker() {
  byte epoch, number, at, id, i;
idle:
  atomic { claims < CLAIMS && (now.ready || now.status == RUNNING) -> claim(epoch, number) };
  do
  :: atomic { at != GONE -> read(epoch, at, id) }
  :: d_step { ANSWERABLE -> now.entry[at - 1] = NONE; known[id] = 0; now.number++; number++ } /* commit.lua */
  :: atomic { at != GONE -> release(epoch, number, at, id) }; break
  :: break /* a crash, a refusal, a lease that is lost: ready again, by release.lua or when the lease has run out */
  od;
  atomic { epoch = 0; number = 0; at = 0; id = 0 };
  goto idle
}

proctype client() {
  do
  :: atomic { messages < MESSAGES && now.received < ROOM -> append() }
  od
}

proctype server() {
  replicate_or_fail_over()
}

init {
  atomic { now.ready = 1; replica.ready = 1; run worker(); run client(); run server() }
}
