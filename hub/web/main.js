// The composition root of the page: everything long-lived is made here and handed over.

import { Api } from "./data/api.js";
import { Feed } from "./data/feed.js";
import { Session } from "./data/session.js";
import { Store } from "./data/store.js";
import { Shell } from "./shell.js";
import { deadView } from "./views/dead.js";
import { keysView } from "./views/keys.js";
import { modelsView } from "./views/models.js";
import { nodesView } from "./views/nodes.js";
import { overviewView } from "./views/overview.js";
import { playgroundView } from "./views/playground.js";
import { queuesView } from "./views/queues.js";
import { requestsView } from "./views/requests.js";
import { signIn } from "./views/sign-in.js";

const session = new Session();
const store = new Store();
const api = new Api(session, signedOut);
const parts = { session, store, api };
const shell = new Shell(store, {
  overview: overviewView(parts),
  nodes: nodesView(parts),
  models: modelsView(parts),
  queues: queuesView(parts),
  requests: requestsView(parts),
  dead: deadView(parts),
  keys: keysView(parts),
  playground: playgroundView(parts),
});
const feed = new Feed(session, store, heard);
const leave = document.getElementById("sign-out");
const door = signIn((token) => {
  session.adminToken = token;
  feed.start();
});

function heard(status) {
  shell.showFeed(status);
  if (status.state === "live") {
    leave.hidden = !session.adminToken;
  } else if (status.state === "signed-out") {
    signedOut(status.error);
    return;
  }
  if (status.state !== "connecting") shell.open();
}

/** Forget the token, if there was one, and ask for another. */
function signedOut(error) {
  const wasRefused = Boolean(session.adminToken) && error;
  feed.stop();
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  session.adminToken = "";
  store.forget();
  leave.hidden = true;
  shell.showFeed({ state: "signed-out" });
  shell.close("Sign in", door.element);
  door.ask(wasRefused ? "This token was not accepted." : error?.code === "admin_token_not_set" ? error.message : "");
}

leave.addEventListener("click", () => signedOut(null));
feed.start();
