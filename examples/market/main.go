// Command market is a shop that installs its plug-ins: its config.yaml names them, and where they are published. They are fetched, verified and locked when
// it starts for the first time; later it starts without a network.
//
//	market CONFIG
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ferrule-dev/ferrule/plugins"
	"github.com/ferrule-dev/ferrule/plugins/oci"
	"github.com/ferrule-dev/ferrule/plugins/release"
)

// Cart is what a plug-in gets before the checkout.
type Cart struct {
	TotalInCents  int64  `json:"totalInCents"`
	NewCustomer   bool   `json:"newCustomer"`
	ProvidedEmail string `json:"providedEmail"`
}

// Discount is what it decides.
type Discount struct {
	DiscountPercent int64 `json:"discountPercent"`
}

func run(ctx context.Context, config string) error {
	sys := plugins.New("shop", "1.4.0", plugins.Config(config), plugins.Download(release.Pages, oci.Registries),
		plugins.StoreFolder(filepath.Join(filepath.Dir(config), "store"))) // without this it is the user's own
	defer sys.Close()
	plugins.Offer(sys, "loyalty_points", loyaltyPoints, plugins.Public())
	discount := plugins.First[Cart, Discount](sys, "before_checkout")
	if err := sys.Start(ctx); err != nil {
		return err
	}
	for _, p := range sys.List() {
		fmt.Println(p.Name, p.Version, p.State)
		if p.Err != nil {
			fmt.Println(" ", p.Err)
		}
	}
	for _, cart := range []Cart{{19500, true, "ada@example.com"}, {7270, false, "grace@example.com"}, {1299, true, "joan@example.com"}} {
		d, _, err := discount.Call(ctx, cart)
		if err != nil {
			return err
		}
		fmt.Printf("%s gets %d %% off $%.2f\n", cart.ProvidedEmail, d.DiscountPercent, float64(cart.TotalInCents)/100)
	}
	return nil
}

// loyaltyPoints stands for a real shop's database.
func loyaltyPoints(_ context.Context, email string) (int64, error) {
	return map[string]int64{"ada@example.com": 40, "grace@example.com": 2750}[email], nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: market CONFIG")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "market:", err)
		os.Exit(1)
	}
}
