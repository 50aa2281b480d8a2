/* A client's messages: sent, stored, receipted, handled, lost and told; and a Redis that forgets.
 *
 * One session. Its client sends its messages in order, at most two at a time; it may lose its connection and attach
 * anew at any moment, and withdraw a message of which no copy may be stored. What an edge asks of Redis may be under way
 * for as long as it likes, also after its client has left, and run in any order; its answer, too. A worker hands the
 * messages to the State, one commit each.
 *
 * A message is its content, 1, 2, ...; what is stored of it in the inbox has an id of its own each time.
 */
#include "common.pml"

#ifndef MESSAGES
#define MESSAGES 2
#endif
#ifndef ATTACHES
#define ATTACHES 2
#endif
#ifndef APPENDS
#define APPENDS 3   /* copies that are sent */
#endif
#define ROOM 2
#define C 5

typedef Entry { byte content; byte id };
typedef Redis {
  byte place;       /* the session's; 0: none */
  byte last_mid;
  byte received;
  Entry inbox[ROOM];
  byte number;      /* commit number */
  byte handled;     /* a bit for each message that the State has handled */
  byte newest;      /* the one that it handled last */
};
Redis now, replica, nothing;

byte sends;

/* ---- the client */
#define WAITING   0
#define STORED    1
#define LOST      2
#define WITHDRAWN 3
byte fate[C];
byte mid[C];        /* what it was sent under last */
bit unknown[C];     /* a copy may be stored */
bit copy_out[C];    /* a copy is under way on this connection, unanswered */
byte stored;        /* the highest mid that is known to be stored */
bit attached, must_attach, moved;

/* ---- its edge, on this connection */
byte attaches;      /* which connection it is */
bit here;           /* it is open */
byte place;         /* Attachment.place: its attach's number, and how often it was renamed */
bit attaching;      /* attach.lua has run, its answer is on its way */
byte attach_mid;    /* what it said */
bit attach_late;    /* Redis was away meanwhile */
byte given;         /* Attachment.given_mid */
bit gap;            /* Redis was away: the sessions are to be checked */
#define TRUSTED 1   /* checking: was anything lost? */
#define DISTRUSTED 2 /* a reset is to be told */
byte check;
bit asked;          /* Attachment.confirm: its answer is on its way */
byte confirmed;     /* what it said */
byte renewed;       /* the place that it took */

/* ---- what was asked of Redis by edges: append.lua */
#define FREE 0
#define HELD 1      /* at the edge: orbit/edge/gate.py */
#define SENT 2
#define DONE 3
typedef Request { byte state; byte connection; byte content; byte mid; byte place; byte said; byte last; bit late; bit orphan };
Request request[2];
#define R_STORED 1
#define R_WRONG 2
#define R_PLACE 3

inline free(r) { r.state = FREE; r.connection = 0; r.content = 0; r.mid = 0; r.place = 0; r.said = 0; r.last = 0; r.late = 0; r.orphan = 0 }

inline copy(into, from) {
  into.place = from.place; into.last_mid = from.last_mid; into.received = from.received; 
  into.number = from.number; into.handled = from.handled; into.newest = from.newest;
  into.inbox[0].content = from.inbox[0].content; into.inbox[0].id = from.inbox[0].id;
  into.inbox[1].content = from.inbox[1].content; into.inbox[1].id = from.inbox[1].id
}
/* Somebody waits for its answer. */
#define MINE(r) (r.connection == attaches && here && copy_out[r.content] && !r.orphan)

/* Each edge notices, sooner or later; whatever was asked before and is answered after is late. What nobody waits for any
 * more (given up, or of a client that left) went to the server that is gone, and doesn't reach its successor. */
#ifdef STRAYS
#define DIES(r) false
#else
#define DIES(r) (r.state != FREE && !MINE(r))
#endif
inline on_failover() {
  if
  :: DIES(request[0]) -> free(request[0])
  :: else
  fi;
  if
  :: DIES(request[1]) -> free(request[1])
  :: else
  fi;
  gap = here;
  attach_late = attaching;
  request[0].late = (request[0].state != FREE); request[1].late = (request[1].state != FREE)
}

/* append.lua, in its order */
inline append(r) {
  r.state = DONE;
  if
#ifndef NO_PLACE_CHECK
  :: r.place != now.place -> r.said = R_PLACE
#endif
  :: else ->
     if
#ifndef NO_MID_CHECK
     :: r.mid <= now.last_mid -> r.said = R_STORED /* duplicate */
     :: r.mid > now.last_mid + 1 -> r.said = R_WRONG; r.last = now.last_mid
#endif
     :: else ->
        now.inbox[now.received].content = r.content;
#ifdef PLACE_IS_THE_ID
        now.inbox[now.received].id = 1;
#else
        now.inbox[now.received].id = failovers + 1; /* new digits: a place is taken twice only after a failover */
#endif
        now.received++;
        now.last_mid = r.mid;
        r.said = R_STORED
     fi
  fi
}

/* ---- decisions of ClientSession (orbit/protocol/sessions.py) */

#define PINNED(c) (fate[c] == WAITING && (unknown[c] || copy_out[c]))
/* _settle: all that was sent under a mid up to `upto` is stored */
inline settle(upto) {
  i = 1;
  do
  :: i <= MESSAGES && fate[i] != WAITING -> i++
  :: i <= MESSAGES && PINNED(i) && mid[i] <= upto ->
     fate[i] = STORED; unknown[i] = 0;
     stored = (mid[i] > stored -> mid[i] : stored);
     i++
  :: else -> break
  od;
  i = 0
}
/* _compare: what the edge says is stored, against what is known */
inline compare(last) {
  if
  :: last >= stored -> settle(last); stored = last
  :: else ->
     i = 1;
     do
     :: i <= MESSAGES && ((fate[i] == STORED && mid[i] > last) || PINNED(i)) -> fate[i] = LOST; mid[i] = 0; unknown[i] = 0; i++
     :: i <= MESSAGES && !((fate[i] == STORED && mid[i] > last) || PINNED(i)) -> i++
     :: i > MESSAGES -> break
     od;
     i = 0; stored = last; moved = 1
  fi
}
#define OUT (copy_out[1] || copy_out[2] || copy_out[3])
#define AHEAD(c) ((c > 1 && fate[1] == WAITING) + (c > 2 && fate[2] == WAITING))
#define OUT_AHEAD(c) ((c == 1 || fate[1] != WAITING || copy_out[1]) && (c < 3 || fate[2] != WAITING || copy_out[2]))
#define MAY_SEND(c) (c <= MESSAGES && attached && !must_attach && !(moved && OUT) && fate[c] == WAITING && !copy_out[c] && \
    OUT_AHEAD(c) && sends < APPENDS)

inline send_(c, r) {
  sends++; moved = 0;
  mid[c] = stored + 1 + AHEAD(c);
  copy_out[c] = 1;
  r.state = HELD; r.connection = attaches; r.content = c; r.mid = mid[c]; r.place = place
}
/* Gate: what is told of the session is told while nothing is asked for it, and nothing is asked meanwhile. */
#ifdef GATE_OPEN
#define AT_REST true
#define SHUT false
#else
#define UNDER_WAY(r) (r.state > HELD && MINE(r))
#define AT_REST (!UNDER_WAY(request[0]) && !UNDER_WAY(request[1]))
#define SHUT (check == DISTRUSTED && (asked || renewed))
#endif

/* An answer reaches the edge, and through it the client: Dialogue._send, _judge. */
inline answer(r) {
  copy_out[r.content] = 0;
#ifndef LATE_ANSWER_TRUSTED
  gap = gap || r.late; /* what it says may be lost already: the session is checked once more */
#endif
  if
  :: r.said == R_STORED -> /* receipt */
     given = (r.mid > given -> r.mid : given);
     if
     :: fate[r.content] == WAITING -> unknown[r.content] = 1; settle(r.mid)
     :: else
     fi
  :: r.said == R_WRONG -> /* rejected, out_of_order */
     unknown[r.content] = 0;
     must_attach = must_attach || r.last < stored
  :: r.said == R_PLACE -> must_attach = 1; attached = 0 /* replaced */
  fi;
  free(r)
}
/* No answer: `error` `unavailable` with the mid. Redis may run it all the same, or not. */
inline unanswered(r) {
  if
  :: MINE(r) -> copy_out[r.content] = 0; unknown[r.content] = 1; r.orphan = 1
  :: else -> skip
  fi
}

proctype session() {
  byte i;
  do
  /* The connection is lost, or the client is to attach anew: everything that is out is of unknown fate. */
  :: d_step { here && attaches < ATTACHES ->
       here = 0; place = 0; attached = 0; attaching = 0; attach_mid = 0; attach_late = 0; given = 0; gap = 0; check = 0;
       asked = 0; confirmed = 0; renewed = 0; must_attach = 0;
       unknown[1] = PINNED(1); unknown[2] = PINNED(2); unknown[3] = PINNED(3);
       copy_out[1] = 0; copy_out[2] = 0; copy_out[3] = 0 }
  /* attach.lua */
  :: d_step { !here && attaches < ATTACHES -> attaches++; here = 1; place = 4 * attaches;
       now.place = place; attaching = 1; attach_mid = now.last_mid }
  /* `attached` is told */
  :: d_step { attaching -> attaching = 0; attached = 1;
#ifndef LATE_ATTACH_TRUSTED
       gap = gap || attach_late;
#endif
       attach_late = 0; given = attach_mid;
       compare(attach_mid); attach_mid = 0;
       unknown[1] = 0; unknown[2] = 0; unknown[3] = 0 /* it took the place: an older copy can't be stored any more */ }
  :: d_step { MAY_SEND(1) && request[0].state == FREE -> send_(1, request[0]) }
  :: d_step { MAY_SEND(1) && request[0].state != FREE && request[1].state == FREE -> send_(1, request[1]) }
  :: d_step { MAY_SEND(2) && request[0].state == FREE -> send_(2, request[0]) }
  :: d_step { MAY_SEND(2) && request[0].state != FREE && request[1].state == FREE -> send_(2, request[1]) }
#if MESSAGES > 2
  :: d_step { MAY_SEND(3) && request[0].state == FREE -> send_(3, request[0]) }
  :: d_step { MAY_SEND(3) && request[0].state != FREE && request[1].state == FREE -> send_(3, request[1]) }
#endif
  :: d_step { fate[1] == WAITING && !PINNED(1) && sends && fate[2] == WAITING -> fate[1] = WITHDRAWN; mid[1] = 0;
       unknown[2] = 0; moved = 1 }
  od
}

proctype redis() {
  byte i;
  do
  :: d_step { request[0].state == HELD && !(MINE(request[0]) && SHUT) -> request[0].state = SENT;
       request[0].place = (MINE(request[0]) -> place : request[0].place) }
  :: d_step { request[0].state == SENT && now.received < ROOM -> append(request[0]) }
  :: d_step { request[1].state == HELD && !(MINE(request[1]) && SHUT) -> request[1].state = SENT;
       request[1].place = (MINE(request[1]) -> place : request[1].place) }
  :: d_step { request[1].state == SENT && now.received < ROOM -> append(request[1]) }
  :: d_step { request[0].state == DONE && MINE(request[0]) -> answer(request[0]) }
  :: d_step { request[1].state == DONE && MINE(request[1]) -> answer(request[1]) }
  :: d_step { request[0].state > HELD && MINE(request[0]) -> unanswered(request[0]) }
  :: d_step { request[1].state > HELD && MINE(request[1]) -> unanswered(request[1]) }
  :: d_step { request[0].state != FREE && !MINE(request[0]) -> free(request[0]) } /* it never arrives, or nobody asks any more */
  :: d_step { request[1].state != FREE && !MINE(request[1]) -> free(request[1]) }
  od
}

/* Edge.recheck, Attachment.recheck, confirm and at_rest: after Redis was away. */
#define MAY_TAKE (now.place / 4 <= place / 4) /* attach_again: nobody takes a place from a later attach */
proctype rechecking() {
  byte i;
  do
  :: d_step { gap && attaching -> gap = 0 } /* the sessions are checked, and it isn't one yet */
  :: atomic { gap && attached && !check -> gap = 0;
       if
       :: check = TRUSTED
       :: check = DISTRUSTED /* the log itself was taken back */
       fi }
  :: d_step { check && !asked && attached && !MAY_TAKE -> must_attach = 1; attached = 0; check = 0; renewed = 0 } /* replaced */
  :: d_step { check == TRUSTED && !asked && attached && MAY_TAKE -> asked = 1; now.place = place; confirmed = now.last_mid }
  :: d_step { asked && check == TRUSTED -> asked = 0; check = (confirmed < given -> DISTRUSTED : 0); confirmed = 0 }
  /* A reset is told while no message is under way; where it tells of lost ones, under a new name of its place. */
  :: d_step { check == DISTRUSTED && !asked && attached && MAY_TAKE && AT_REST -> asked = 1;
       now.place = (renewed -> renewed : place); confirmed = now.last_mid }
#if !defined(PLACE_KEPT) && !defined(GATE_OPEN)
  :: d_step { asked && check == DISTRUSTED && confirmed < given && !renewed -> asked = 0; renewed = place + 1; confirmed = 0 }
#define TELL (asked && check == DISTRUSTED && (confirmed >= given || renewed))
#else
#define TELL (asked && check == DISTRUSTED)
#endif
  :: d_step { TELL -> asked = 0; check = 0; place = (renewed -> renewed : place); given = confirmed;
#ifndef RESET_FORGOTTEN
       compare(confirmed);
       must_attach = must_attach || (moved && OUT);
#endif
       confirmed = 0; renewed = 0 }
  od
}

/* A worker. What of this is about two workers, and about a grant that is lost, is in commit.pml. */
inline load() { number = now.number; content = 0; id = 0; at = 0 }
proctype worker() {
  byte number, content, id, at;
  do
  :: d_step { !content && at < now.received -> content = now.inbox[at].content; id = now.inbox[at].id; at++ } /* work.lua */
  :: d_step { number > now.number -> load() } /* rewound: everything anew */
  :: d_step { content && number + 1 == now.number -> number++; content = 0; id = 0 } /* repeated */
  :: atomic { content && number == now.number -> /* commit.lua */
       if
#ifndef NO_CONSUMED_CHECK
       :: now.inbox[at - 1].id != id -> load() /* rewound */
#endif
       :: else ->
          /* "Handled once, in mid order", along the history that survives. */
          assert(!(now.handled & (1 << content)) && content > now.newest);
          /* What its sender took back isn't handled. */
          assert(fate[content] != WITHDRAWN);
          now.handled = now.handled | (1 << content);
          now.newest = content;
          now.number++;
          now.inbox[at - 1].content = 0; now.inbox[at - 1].id = 0;
          if
          :: number = now.number; content = 0; id = 0
          :: skip /* not heard: the same commit again */
          fi
       fi }
  od
}

proctype server() {
  do
  :: d_step { failovers < FAILOVERS -> copy(replica, now) }
  :: d_step { failovers < FAILOVERS -> failovers++; copy(now, replica); on_failover();
       if
       :: failovers == FAILOVERS -> copy(replica, nothing)
       :: else
       fi }
  od
}

#define IN_INBOX(c) (now.inbox[0].content == c || now.inbox[1].content == c)
#define KEPT(c) (fate[c] != STORED || IN_INBOX(c) || (now.handled & (1 << c)))

proctype judge() {
  timeout ->
  /* "Stored: it will be handled once, or answered", unless the client was told that it is lost. */
  assert(!attached || must_attach || (KEPT(1) && KEPT(2) && KEPT(3)))
}

init {
  atomic {
#ifdef ONE_BEFORE
    now.last_mid = 1; stored = 1; /* a message that the replica doesn't have yet */
#endif
    run session(); run redis(); run rechecking(); run worker(); run server(); run judge() }
}
