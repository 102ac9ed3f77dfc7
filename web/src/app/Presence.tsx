/** Where the console asks who sits there (`api/presence`); the dialog is loaded when it is first needed. */
import { lazy, Suspense, useEffect, useState } from "react";
import { askBy } from "@/api/presence";

const ConfirmItIsYou = lazy(() => import("@/features/login/ConfirmItIsYou"));

export function Presence() {
  const [answer, setAnswer] = useState<{ give: (confirmed: boolean) => void }>();
  useEffect(() => askBy(() => new Promise((give) => setAnswer({ give }))), []);
  if (!answer) return null;
  return (
    <Suspense>
      <ConfirmItIsYou
        end={(confirmed) => {
          setAnswer(undefined);
          answer.give(confirmed);
        }}
      />
    </Suspense>
  );
}
