/** The question before a deed to a user: signing out, taking the second factor, removing. */
import { plural, t } from "@lingui/core/macro";
import { useQueryClient } from "@tanstack/react-query";
import type { User } from "@/api/model";
import { Confirm } from "@/ui/Confirm";
import { endSessionsOf, removeUser, resetFactors, usersQuery } from "./queries";

export type Deed = "sign-out" | "reset" | "remove";

export function UserDeed({ deed, user, close }: { deed: Deed; user: User; close: () => void }) {
  const queries = useQueryClient();
  const { title, consequence, button, act } = inWords(deed, user);
  return (
    <Confirm
      title={title}
      consequence={consequence}
      deed={button}
      act={async () => {
        await act(user.id);
        await queries.invalidateQueries({ queryKey: usersQuery.queryKey });
      }}
      close={close}
    />
  );
}

function inWords(deed: Deed, user: User): { title: string; consequence: string; button: string; act: (id: number) => Promise<unknown> } {
  const { name, sessions } = user;
  switch (deed) {
    case "sign-out":
      return {
        title: t`Sign ${name} out everywhere?`,
        consequence: plural(sessions, { one: "# session ends at once. They can sign in again.", other: "# sessions end at once. They can sign in again." }),
        button: t`Sign ${name} out`,
        act: endSessionsOf,
      };
    case "reset":
      return {
        title: t`Reset the second factor of ${name}?`,
        consequence: plural(sessions, {
          one: "Authenticator app, passkeys and recovery codes are worth nothing any more, and # session ends. The password alone lets them in again: be sure that it is they who ask.",
          other: "Authenticator app, passkeys and recovery codes are worth nothing any more, and # sessions end. The password alone lets them in again: be sure that it is they who ask.",
        }),
        button: t`Reset the second factor`,
        act: resetFactors,
      };
    case "remove":
      return {
        title: t`Remove ${name}?`,
        consequence: t`${name} is signed out everywhere at once and cannot sign in again. What they have changed stays, and stays in the audit log.`,
        button: t`Remove ${name}`,
        act: removeUser,
      };
  }
}
