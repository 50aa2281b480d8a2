/* Claim, renew, commit, release: two workers, one transaction, a Redis that forgets.
 *
 * A worker may stand still between any two steps (SIGSTOP), crash, or never hear an answer; then it sends the same commit
 * again (orbit/worker/history.py, History._answer). A copy of a commit may be late: Redis runs it at any later time.
 *
 * A commit is the identity of its content, `c`, and of the content that it was built on, `base`: a turn changes the fields
 * of the commit before it. The one that ends the transaction refuses what stands in the inbox at that very moment, so
 * what it writes isn't known to the worker.
 */
#include "common.pml"

#ifndef CLAIMS
#define CLAIMS 3
#endif
#ifndef TURNS
#define TURNS 4
#endif
#define EPOCHS 10
#define NUMBERS 6
#define THE_END 100 /* what it writes: that and 1, plus 1 where it refuses a message */
#define NOBODY 9

typedef Redis {
  byte status;   /* meta: READY (pending), RUNNING, ENDED */
  byte epoch;    /* the newest grant's */
  byte owner;
  byte number;   /* commit number */
  byte writer;   /* the epoch that the newest commit was written under */
  byte fields;   /* the newest snapshot: the content that wrote it */
  bit inbox;     /* a message is unread */
  byte depth;    /* how many commits this history has; not in Redis */
};
Redis now, replica, nothing;

typedef Written { byte at[NUMBERS] };
Written written[EPOCHS]; /* what was ever written, by epoch and number: not in Redis, so never forgotten */
byte claims, turns;
bit ending;

typedef Copy { bit sent; byte epoch; byte number; byte base; byte c };
Copy late;

inline copy(to, from) {
  to.status = from.status; to.epoch = from.epoch; to.owner = from.owner; to.number = from.number;
  to.writer = from.writer; to.fields = from.fields; to.inbox = from.inbox; to.depth = from.depth
}
inline on_failover() { skip }

#define DONE     1
#define REPEATED 2
#define FENCED   3
#define REWOUND  4

/* "One history per epoch": what was written under an epoch and a number once is all that is ever written there. Cursors
 * rest on it. */
inline write(under, number_, content) {
  assert(written[under].at[number_] == 0 || written[under].at[number_] == content);
  written[under].at[number_] = content
}

/* commit.lua: the answers in its order. */
inline commit(grant, expected, built_on, content_, told) {
#ifdef NO_EPOCH_CHECK
#define HOLDS(grant) true
#else
#define HOLDS(grant) (now.epoch == grant)
#endif
  if
#ifndef NO_REPEATED
  :: now.number == expected + 1 && now.writer == grant && (HOLDS(grant) || now.status == ENDED) ->
     /* "repeated": this very commit was done before. */
     assert(now.fields == content_ || now.fields >= THE_END);
     told = REPEATED
#endif
  :: else ->
     if
     :: !HOLDS(grant) || now.status != RUNNING -> told = FENCED
     :: else ->
        if
#ifndef NO_NUMBER_CHECK
        :: now.number != expected ->
           /* History.commit: a refusal means that nothing of the turn was written in this history. */
           assert(now.fields != content_);
           told = REWOUND
#endif
        :: else ->
           /* "Turns of one transaction never overlap": a turn begins from the fields of the commit before it. */
           assert(now.fields == built_on);
           now.number = expected + 1; now.writer = grant; now.fields = content_; now.depth++;
           /* Two writers are never both done under one number. */
           assert(now.number == now.depth);
           told = DONE;
           if
           :: content_ >= THE_END ->
              /* lib/ending.lua: what it refuses, and the end, under an epoch of their own. */
              now.fields = THE_END + 1 + now.inbox;
#ifdef END_UNDER_ITS_GRANT
              write(grant, expected + 1, now.fields);
#else
              next_epoch(now.epoch, now.epoch);
              write(now.epoch, expected + 1, now.fields);
#endif
              now.status = ENDED; now.owner = NOBODY; now.inbox = 0
           :: else -> write(grant, expected + 1, content_)
           fi
        fi
     fi
  fi
}

#ifdef REENCODED
#define again(c) if :: turns < TURNS && c != THE_END -> turns++; c = turns :: else fi
#else
#define again(c) skip
#endif

/* claim.lua, also over a lease that ran out; what load.lua reads comes along. */
inline claim(who, e, n, b) {
  claims++;
  next_epoch(now.epoch, now.epoch);
  now.status = RUNNING; now.owner = who;
  e = now.epoch; n = now.number; b = now.fields
}

/* renew.lua: "extends the leases still held under the epoch and at the commit number given". */
inline renew(who, e, n) { /* what is lost is dropped in `worker`, as a lease that its holder lets go */
  if
#ifdef NO_OWNER_CHECK
  :: now.status == RUNNING ->
#else
  :: now.status == RUNNING && now.epoch == e && now.owner == who && now.number >= n ->
#endif
     /* A lost worker's lease runs out: nobody else keeps it. */
     assert(now.owner == who);
     skip
  :: else -> skip
  fi
}

/* release.lua: ready again, under the epoch. */
inline release(e) {
  if
  :: now.status == RUNNING && now.epoch == e -> now.status = READY; now.owner = NOBODY
  :: else -> skip
  fi
}

#define CLAIMABLE (now.status == READY || now.status == RUNNING) /* a lease may have run out at any moment */

/* An actor under one grant after the other: orbit/worker/slots.py, life.py, history.py. */
inline forget() {
  epoch = 0; number = 0; base = 0; c = 0; answer = 0
}
proctype worker(byte me) {
  byte epoch, number, base, c, answer;
end_idle:
  atomic { claims < CLAIMS && CLAIMABLE -> claim(me, epoch, number, base) };
work:
  do
  :: d_step { turns < TURNS -> turns++; c = turns }; break
#ifdef ENDS
  :: d_step { !ending -> ending = 1; c = THE_END }; break
#endif
  :: d_step { renew(me, epoch, number) }
  :: d_step { release(epoch); forget() }; goto end_idle
  :: d_step { forget() }; goto end_idle /* a crash, or a lease that is lost: its own deadline, or a renewal says so */
  od;
  do /* History._answer: until the store has answered, the same */
  :: d_step { commit(epoch, number, base, c, answer) };
     if
     :: answer == DONE || answer == REPEATED -> break
     :: answer == FENCED || answer == REWOUND -> break
     :: d_step { answer = 0; again(c) } /* the answer is lost */
     fi
  :: d_step { !late.sent -> late.sent = 1; /* neither run nor heard yet */
       late.epoch = epoch; late.number = number; late.base = base; late.c = c; again(c) }
  :: d_step { forget() }; goto end_idle
  od;
  if
  :: answer > REPEATED -> d_step { release(epoch); forget() }; goto end_idle
  :: answer <= REPEATED && c == THE_END -> d_step { forget() }; goto end_idle
  :: else -> d_step { number++; base = c; c = 0; answer = 0 }; goto work
  fi
}

/* A copy that was on its way for long. */
active proctype network() {
  byte answer;
end:
  do
  :: d_step { late.sent == 1 -> late.sent = 0;
       commit(late.epoch, late.number, late.base, late.c, answer);
       answer = 0; late.epoch = 0; late.number = 0; late.base = 0; late.c = 0 }
  od
}

active proctype world() {
end:
  do
#ifdef ENDS
  :: d_step { !now.inbox && now.status != ENDED -> now.inbox = 1 } /* append */
#endif
  :: false
  od
}

active proctype server() {
end:
  replicate_or_fail_over()
}

init {
  atomic { now.owner = NOBODY; replica.owner = NOBODY; run worker(1); run worker(2) }
}
